/** The camera, and pictures from it. */

const LONGEST_SIDE_PX = 640;
const JPEG_QUALITY = 0.85;
const THUMBNAIL_PX = 144;

export async function startCamera(video) {
  if (!navigator.mediaDevices) throw new DOMException("", "NotFoundError");
  video.srcObject = await navigator.mediaDevices.getUserMedia({
    video: { facingMode: "user", width: { ideal: 640 } },
  });
  await video.play();
  if (!video.videoWidth) await new Promise((resolve) => video.addEventListener("resize", resolve, { once: true }));
}

export function stopCamera(video) {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
}

/** The current picture of the video as a canvas, in the size that is sent. */
export function takeFrame(video) {
  const scale = Math.min(1, LONGEST_SIDE_PX / Math.max(video.videoWidth, video.videoHeight));
  return drawn(video, video.videoWidth * scale, video.videoHeight * scale);
}

export function toJpeg(canvas, quality = JPEG_QUALITY) {
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
}

export async function loadPicture(blob) {
  const bitmap = await createImageBitmap(blob);
  return drawn(bitmap, bitmap.width, bitmap.height);
}

/** A small square of a picture, around a face if its box is given, as a canvas. */
export function thumbnail(picture, box) {
  const around = box ?? { x_min: 0, y_min: 0, x_max: picture.width, y_max: picture.height };
  const [width, height] = [around.x_max - around.x_min, around.y_max - around.y_min];
  const side = box ? Math.max(width, height) * 1.25 : Math.min(width, height);
  const canvas = Object.assign(document.createElement("canvas"), { width: THUMBNAIL_PX, height: THUMBNAIL_PX });
  const left = (around.x_min + around.x_max - side) / 2;
  const top = (around.y_min + around.y_max - side) / 2;
  canvas.getContext("2d").drawImage(picture, left, top, side, side, 0, 0, THUMBNAIL_PX, THUMBNAIL_PX);
  return canvas;
}

function drawn(source, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), {
    width: Math.round(width),
    height: Math.round(height),
  });
  canvas.getContext("2d").drawImage(source, 0, 0, canvas.width, canvas.height);
  return canvas;
}
