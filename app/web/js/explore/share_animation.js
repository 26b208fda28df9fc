// A run as a short film to share: its picture, token by token. The browser's own recorder films the canvas while it is
// drawn, so nothing is sent anywhere and no encoder is brought along; it takes as long as the film is.

import { wait } from "../shared/dom.js";

// The first that a browser can make: Chromium and Firefox make WebM, Safari MP4.
const TYPES = ["video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm", "video/mp4"];
const WHOLE_MS = 6000; // for the tokens of a long run
const SLOWEST_MS = 140; // from one token to the next
const LAST_MS = 1600; // the whole picture, at its end
const BITS_PER_S = 4_000_000;

const typeHere = () => "MediaRecorder" in window && TYPES.find((type) => MediaRecorder.isTypeSupported(type));

/**
 * Films a picture. Raises an Error in words where the browser has no recorder.
 * @param {import("./share_picture.js").SharePicture} picture
 * @returns {Promise<{ film: Blob, ending: string }>} the file and what its name ends with
 */
export async function filmOf(picture) {
  const type = typeHere();
  if (!type) throw new Error("This browser cannot film a page. Save the picture instead.");
  const stream = picture.canvas.captureStream(0);
  const [track] = /** @type {CanvasCaptureMediaStreamTrack[]} */ (stream.getVideoTracks());
  const recorder = new MediaRecorder(stream, { mimeType: type, videoBitsPerSecond: BITS_PER_S });
  const pieces = [];
  recorder.addEventListener("dataavailable", (event) => pieces.push(event.data));
  const done = new Promise((resolve, reject) => {
    recorder.addEventListener("stop", resolve);
    recorder.addEventListener("error", () => reject(new Error("The browser's recorder failed. Save the picture instead.")));
  });
  recorder.start();
  const pause = Math.min(WHOLE_MS / picture.length, SLOWEST_MS);
  const begin = performance.now();
  // By the clock: a browser that is slow shows fewer frames, not a longer film.
  for (let shown = 0; shown < picture.length;) {
    shown = Math.min(picture.length, 1 + Math.floor((performance.now() - begin) / pause));
    picture.draw(shown);
    track.requestFrame();
    await wait(Math.max(pause, 16));
  }
  picture.draw();
  track.requestFrame();
  await wait(LAST_MS);
  picture.draw();
  track.requestFrame();
  recorder.stop();
  await done;
  stream.getTracks().forEach((one) => one.stop());
  return { film: new Blob(pieces, { type: type.split(";")[0] }), ending: type.includes("mp4") ? "mp4" : "webm" };
}
