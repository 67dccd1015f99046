/** A long list of which only the rows in sight are in the page. */

import type { ComponentChildren } from "preact";
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { rowWindow } from "../window";

interface Props {
  /** Said to whoever hears the list. */
  label: string;
  rows: number;
  rowHeight: number;
  keyOf: (row: number) => string;
  render: (row: number) => ComponentChildren;
  /** Told which rows are in sight, when that changes. */
  onWindow?: (first: number, end: number) => void;
  testId?: string;
}

export function VirtualList({ label, rows, rowHeight, keyOf, render, onWindow, testId }: Props) {
  const scroller = useRef<HTMLDivElement>(null);
  const top = useSignal(0);
  const viewport = useSignal(600);
  useEffect(() => {
    const element = scroller.current;
    if (element === null) return;
    const observer = new ResizeObserver(() => (viewport.value = element.clientHeight));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const { first, end, offset, height } = rowWindow(rows, rowHeight, top.value, viewport.value);
  useEffect(() => onWindow?.(first, end), [first, end, rows]);
  const drawn = [];
  for (let row = first; row < end; row += 1) {
    drawn.push(
      <li key={keyOf(row)} aria-setsize={rows} aria-posinset={row + 1} style={{ height: `${rowHeight}px` }}>
        {render(row)}
      </li>,
    );
  }
  return (
    <div
      ref={scroller}
      class="scroller"
      role="region"
      aria-label={label}
      tabIndex={0}
      data-testid={testId}
      onScroll={(event) => (top.value = event.currentTarget.scrollTop)}
    >
      <ul style={{ height: `${height}px`, paddingTop: `${offset}px` }}>{drawn}</ul>
    </div>
  );
}
