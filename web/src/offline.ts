/** Registers the service worker, which keeps the page for times without a network and makes it cross-origin isolated. */

/** The page was loaded anew for it; once is enough, whatever comes of it. */
const RELOADED = 'reloaded to be isolated';

export async function registerOffline(): Promise<void> {
  const { serviceWorker } = navigator;
  if (!import.meta.env.PROD || !serviceWorker) return; // an insecure address, or a private window
  try {
    await serviceWorker.register('./serviceWorker.js');
    await serviceWorker.ready;
  } catch {
    return; // it is only a help
  }
  const isOff = new URLSearchParams(location.search).get('isolated') === 'no';
  if (crossOriginIsolated || isOff || sessionStorage.getItem(RELOADED)) return;
  sessionStorage.setItem(RELOADED, 'yes');
  location.reload();
}
