import type { Region } from "./resample.ts";

export interface PanAndScanSettings {
  /** No crop has a side under this many pixels. */
  readonly pan_and_scan_min_crop_size: number;
  readonly pan_and_scan_max_num_crops: number;
  /** Long side over short side from which an image is cropped. */
  readonly pan_and_scan_min_ratio_to_activate: number;
}

/**
 * The crops of a long image along its long side, none where it is nearly square or the crops would be too small. All
 * are as long as the first; the last is cut off by the image's edge.
 */
export function panAndScan(width: number, height: number, settings: PanAndScanSettings): Region[] {
  const minCrop = settings.pan_and_scan_min_crop_size;
  const [long, short] = width >= height ? [width, height] : [height, width];
  if (long / short < settings.pan_and_scan_min_ratio_to_activate) return [];
  const wanted = Math.min(Math.floor(long / minCrop), Math.floor(long / short + 0.5));
  const count = Math.min(settings.pan_and_scan_max_num_crops, Math.max(2, wanted));
  const length = Math.ceil(long / count);
  if (Math.min(length, short) < minCrop) return [];
  return Array.from({ length: count }, (_, i) => {
    const start = length * i;
    const extent = Math.max(0, Math.min(length, long - start));
    return width >= height
      ? { left: start, top: 0, width: extent, height }
      : { left: 0, top: start, width, height: extent };
  });
}
