// Browsers start no worker from a file. Where the pages are opened from a folder, the search runs in a hidden frame instead.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.srcdoc = "<!DOCTYPE html><title>search</title>";
      this.frame.onload = () => {
        const { contentWindow: inside, contentDocument: page } = this.frame;
        const send = inside.postMessage.bind(inside);
        inside.postMessage = (data) => this.onmessage?.({ data });
        const script = page.createElement("script");
        script.src = url;
        script.onload = () => {
          this.send = (data) => send(data, "*");
          this.waiting.forEach(this.send);
        };
        script.onerror = (event) => this.onerror?.(event);
        page.body.append(script);
      };
      document.documentElement.append(this.frame);
    }
    postMessage(data) {
      this.send ? this.send(data) : this.waiting.push(data);
    }
    terminate() {
      this.frame.remove();
    }
  };
}
