// @ts-check
// What comes over the wire, beyond the types that are made from the protocol's schema.

/**
 * @typedef {import("./protocol").Events} EventMessage
 * @typedef {EventMessage | import("./protocol").Samples | import("./protocol").ServerControls}
 *   ServerMessage
 * @typedef {import("./protocol").ClientMessages} ClientMessage
 * @typedef {NonNullable<import("./protocol").Heat["matrix"]>} Matrix - mask → frame coordinates
 */

const HEADER_BYTES = 16;
const MAGIC = 0x5346;

/**
 * Decode base64 into bytes.
 * @param {string} text
 */
export function bytes(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/**
 * Read a picture message: a header, then a JPEG.
 * @param {ArrayBuffer} buffer
 * @returns {{stream: number, frame: number, jpeg: ArrayBuffer} | null} null: it is no picture
 */
export function readPicture(buffer) {
  const header = new DataView(buffer);
  if (buffer.byteLength <= HEADER_BYTES || header.getUint16(0, true) !== MAGIC) return null;
  return {
    stream: header.getUint16(4, true),
    frame: header.getUint32(8, true),
    jpeg: buffer.slice(HEADER_BYTES),
  };
}
