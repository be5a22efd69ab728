// Pages opened from a disk may start no web worker, and the search is one: here a hidden frame stands in for it.
// zensical would fetch such a stand-in from another site; nothing in these pages is to ask the network.
"use strict";

if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.body.appendChild(Object.assign(document.createElement("iframe"), { hidden: true }));
      const inside = this.frame.contentWindow;
      inside.postMessage = (data) => this.hear(data);
      inside.importScripts = (...urls) => urls.reduce((done, one) => done.then(() => load(inside, one)), Promise.resolve());
      this.ready = load(inside, url);
    }

    hear(data) {
      const message = new MessageEvent("message", { data });
      this.dispatchEvent(message);
      if (this.onmessage) this.onmessage(message);
    }

    postMessage(data) {
      const tell = (inside) => inside.dispatchEvent(new inside.MessageEvent("message", { data }));
      this.ready.then(() => tell(this.frame.contentWindow));
    }

    terminate() {
      this.frame.remove();
    }
  };
}

function load(inside, url) {
  return new Promise((done, failed) => {
    const script = Object.assign(inside.document.createElement("script"), { src: url, onload: done, onerror: failed });
    inside.document.body.appendChild(script);
  });
}
