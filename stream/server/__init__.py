"""One TCP port for the page, the websocket of messages and the websocket of pictures."""
