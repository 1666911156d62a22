// @ts-check
// The camera of this browser: how it is opened, why it cannot be, and its pictures as JPEG.

const LONGEST_SIDE = 1280; // pixels of a picture that is sent; an 8K camera is made smaller here
const QUALITIES = [0.92, 0.75, 0.5]; // the next one where a picture would be too large

/** @type {Record<string, string>} what the browser's errors mean, and what to do */
const ADVICE = {
  NotAllowedError:
    "The camera may not be used: its permission was refused. Allow it by the camera or lock symbol in the address bar, then start it again. If the system refuses it, allow it there, too.",
  NotFoundError: "This device has no camera. Connect one, then start it again.",
  NotReadableError:
    "The camera gives no picture: another program uses it, or it is broken. Close the other program, then start it again.",
  AbortError: "The camera could not be started. Connect it anew, then start it again.",
  SecurityError: "The camera may not be used on this page by the rules of this browser.",
};

/** Why no camera can be had on this page, and what to do; null: nothing is in the way. */
export function obstacle() {
  if ("mediaDevices" in navigator) return null;
  if (window.isSecureContext) return "This browser gives no camera to pages; use another one.";
  return (
    "Browsers give a camera only to pages of https:// and of this very machine (http://localhost). Either:\n" +
    "• start the server with --cert FILE --key FILE, and open its https:// address;\n" +
    `• or forward the port to your machine: ssh -L ${location.port || "80"}:localhost:${location.port || "80"} ${location.hostname}, and open http://localhost:${location.port || "80"}/camera here.`
  );
}

/**
 * What a refusal of the browser means.
 * @param {unknown} error
 */
export function advice(error) {
  const name = error instanceof Error ? error.name : "";
  return ADVICE[name] ?? `The camera could not be started: ${error}`;
}

/**
 * @typedef {object} WebcamHandlers
 * @property {() => void} fresh - a picture that was not taken yet is there
 * @property {(reason: "ended" | "muted") => void} lost - no picture follows
 */

export class Webcam {
  /**
   * @param {HTMLVideoElement} video - shows it
   * @param {WebcamHandlers} handlers
   */
  constructor(video, handlers) {
    this.video = video;
    this.handlers = handlers;
    this.canvas = document.createElement("canvas");
    /** @type {MediaStreamTrack | null} */
    this.track = null;
    this.isFresh = false;
    this.takenMs = 0;
  }

  /** Whether it gives pictures. */
  get isOn() {
    return this.track !== null && this.track.readyState === "live" && !this.track.muted;
  }

  /**
   * Open a camera; ask for the permission.
   * @param {string} device - its id; "": any
   */
  async start(device) {
    this.stop();
    const size = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
    const which = device ? { deviceId: { exact: device } } : { facingMode: "user" };
    const media = navigator.mediaDevices;
    const stream = await media
      .getUserMedia({ video: { ...size, ...which }, audio: false })
      .catch((error) => {
        // A camera that cannot do that size, or has gone since it was chosen: any will do.
        if (error.name !== "OverconstrainedError") throw error;
        return media.getUserMedia({ video: true, audio: false });
      });
    const [track] = stream.getVideoTracks();
    this.track = track;
    track.onended = () => this.handlers.lost("ended");
    track.onmute = () => this.handlers.lost("muted");
    this.video.srcObject = stream;
    await this.video.play();
    this.watch(track);
  }

  stop() {
    if (this.track) {
      this.track.onended = this.track.onmute = null;
      this.track.stop();
    }
    this.track = null;
    this.isFresh = false;
    this.video.srcObject = null;
  }

  /**
   * Note every picture that the camera gives, until another track is shown.
   * @param {MediaStreamTrack} track
   */
  watch(track) {
    /** @type {(now: number, facts?: {captureTime?: number}) => void} */
    const noted = (now, facts) => {
      if (track !== this.track) return;
      this.isFresh = true;
      this.takenMs = facts?.captureTime ?? now;
      this.handlers.fresh();
      this.watch(track);
    };
    if ("requestVideoFrameCallback" in this.video) this.video.requestVideoFrameCallback(noted);
    else requestAnimationFrame(noted);
  }

  /**
   * Take the picture shown now, as it is (not mirrored).
   * @param {number} maxBytes
   * @returns {Promise<{jpeg: Blob, takenMs: number, width: number, height: number} | null>} null:
   *   there is none
   */
  async take(maxBytes) {
    const { videoWidth, videoHeight } = this.video;
    if (!this.isFresh || !videoWidth || !videoHeight) return null;
    this.isFresh = false;
    const { takenMs, canvas } = this;
    const scale = Math.min(1, LONGEST_SIDE / Math.max(videoWidth, videoHeight));
    canvas.width = Math.max(1, Math.round(videoWidth * scale));
    canvas.height = Math.max(1, Math.round(videoHeight * scale));
    canvas.getContext("2d")?.drawImage(this.video, 0, 0, canvas.width, canvas.height);
    for (const quality of QUALITIES) {
      const jpeg = await /** @type {Promise<Blob | null>} */ (
        new Promise((done) => canvas.toBlob(done, "image/jpeg", quality))
      );
      if (jpeg && jpeg.size < maxBytes)
        return { jpeg, takenMs, width: canvas.width, height: canvas.height };
    }
    return null;
  }
}

/** Cameras of this device, as far as the permission given lets the browser tell. */
export async function cameras() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter((device) => device.kind === "videoinput");
}
