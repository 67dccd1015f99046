/** Which rows of a long list are in sight: only those are in the page. */

export interface RowWindow {
  /** The first row that is drawn, and the one after the last. */
  first: number;
  end: number;
  /** Pixels above the first row. */
  offset: number;
  /** Pixels of the whole list. */
  height: number;
}

/**
 * @param rows how many there are
 * @param rowHeight pixels, the same for each
 * @param scrollTop pixels that are scrolled away
 * @param viewport pixels that are in sight
 * @param overscan rows drawn beyond both edges, so that quick scrolling shows no gap
 */
export function rowWindow(
  rows: number,
  rowHeight: number,
  scrollTop: number,
  viewport: number,
  overscan = 8,
): RowWindow {
  const last = Math.max(0, rows - Math.ceil(viewport / rowHeight));
  const top = Math.min(Math.max(0, Math.floor(scrollTop / rowHeight)), last);
  const first = Math.max(0, top - overscan);
  const end = Math.min(rows, top + Math.ceil(viewport / rowHeight) + 1 + overscan);
  return { first, end, offset: first * rowHeight, height: rows * rowHeight };
}
