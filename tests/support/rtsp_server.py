"""A real RTSP server for the tests: sends one clip as H.264 on a loopback port until it is killed.

Runs under the system's Python, which has GStreamer's bindings (Debian: ``python3-gi
gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-{base,good,bad,ugly} gstreamer1.0-libav``)::

    /usr/bin/python3 rtsp_server.py CLIP [--port N] [--login USER:PASSWORD]

It writes the port it listens on, as one line, when it is ready. The stream is at ``/face``; every
client gets the clip from its beginning, at its own pace.
"""

from __future__ import annotations

import argparse
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def require_login(
    server: GstRtspServer.RTSPServer, factory: GstRtspServer.RTSPMediaFactory, login: str
) -> None:
    """Let only this user see the stream."""
    user, _, password = login.partition(":")
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth = GstRtspServer.RTSPAuth()
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(permissions)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("clip")
    parser.add_argument("--port", default="0")
    parser.add_argument("--login", default="")
    options = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(options.port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f'( filesrc location="{options.clip}" ! decodebin ! videoconvert'
        " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15"
        " ! rtph264pay name=pay0 pt=96 config-interval=1 )"
    )
    if options.login:
        require_login(server, factory, options.login)
    server.get_mount_points().add_factory("/face", factory)
    if not server.attach(None):
        sys.exit(f"port {options.port} cannot be used")
    sys.stdout.write(f"{server.get_bound_port()}\n")
    sys.stdout.flush()
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
