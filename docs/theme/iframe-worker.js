/* A browser runs no worker from file://, and the search is one. There, and only there, run the
   worker's script in a hidden frame of this page: same messages, no network, no server. */
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      this.onmessage = null
      this.waiting = []
      window.addEventListener("message", event => {
        if (!this.frame || event.source !== this.frame.contentWindow) return
        if (event.data === "worker ready") {
          this.ready = true
          this.waiting.splice(0).forEach(data => this.postMessage(data))
          return
        }
        const copy = new MessageEvent("message", { data: event.data })
        this.dispatchEvent(copy)
        if (this.onmessage) this.onmessage(copy)
      })
      const start = () => {
        this.frame = document.createElement("iframe")
        this.frame.hidden = true
        this.frame.srcdoc =
          "<script>window.importScripts = (...urls) => Promise.all(urls.map(url =>" +
          " new Promise((done, failed) => { const script = document.createElement('script');" +
          " script.src = url; script.onload = done; script.onerror = failed;" +
          " document.body.append(script) })));" +
          " window.postMessage = data => parent.postMessage(data, '*')<\/script>" +
          `<body><script src="${new URL(url, location)}"><\/script>` +
          "<script>postMessage('worker ready')<\/script>"
        document.body.append(this.frame)
      }
      document.body ? start() : addEventListener("DOMContentLoaded", start)
    }
    postMessage(data) {
      if (!this.ready) { this.waiting.push(data); return }
      const event = new this.frame.contentWindow.MessageEvent("message", { data })
      this.frame.contentWindow.dispatchEvent(event)
    }
    terminate() { this.frame?.remove() }
  }
  window.Worker = window.IFrameWorker
}
