/** The stream of camera frames. Each frame is sent when the last one was answered. */
import * as api from "./api.js";
import { takeFrame, toJpeg } from "./camera.js";

const ANSWER_LIMIT_MS = 10_000;

export class Live {
  /** on: the callbacks answered(result, picture) and closed(reason). */
  constructor(sessionId, video, on) {
    this._video = video;
    this._on = on;
    this._picture = null;
    this._socket = api.openStream(sessionId);
    this._socket.addEventListener("open", () => this._send());
    this._socket.addEventListener("message", (event) => this._receive(JSON.parse(event.data)));
    this._socket.addEventListener("close", (event) => {
      clearTimeout(this._limit);
      this._on.closed(event.reason || "away");
    });
  }

  close() {
    this._on = { answered() {}, closed() {} };
    clearTimeout(this._limit);
    this._socket.close();
  }

  async _send() {
    if (document.hidden) {
      document.addEventListener("visibilitychange", () => this._send(), { once: true });
      return;
    }
    if (!this._video.videoWidth || this._socket.readyState !== WebSocket.OPEN) {
      if (this._socket.readyState === WebSocket.OPEN) requestAnimationFrame(() => this._send());
      return;
    }
    this._picture = takeFrame(this._video);
    this._socket.send(await toJpeg(this._picture));
    this._limit = setTimeout(() => this._socket.close(), ANSWER_LIMIT_MS);
  }

  _receive(result) {
    clearTimeout(this._limit);
    this._on.answered(result, this._picture);
    requestAnimationFrame(() => this._send());
  }
}
