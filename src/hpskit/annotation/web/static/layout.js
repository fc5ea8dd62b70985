/**
 * How many columns, and how large each image: decided by the number of images, their shapes and the room there is.
 * The sizes are set before anything has loaded, so nothing moves when it does.
 *
 * @typedef {{width: number, height: number}} Size
 * @typedef {{columns: number, cell: Size, scrolls: boolean}} Plan
 */
const SMALLEST = 150; // px: where cells would be narrower or lower, the page scrolls instead

/** @param {Size} image @param {Size} cell @returns {Size} the largest that fits */
export function fit(image, cell) {
  const scale = Math.min(cell.width / image.width, cell.height / image.height);
  return { width: Math.max(1, Math.round(image.width * scale)), height: Math.max(1, Math.round(image.height * scale)) };
}

/**
 * @param {Size[]} images @param {Size} room @param {{gap: number, foot: number}} extra px between cards, and below images
 * @returns {Plan}
 */
export function plan(images, room, { gap, foot }) {
  const plans = images.map((_, index) => columns(images, room, index + 1, gap, foot));
  const best = plans.reduce((one, other) => (other.area > one.area * 1.02 ? other : one));
  const seen = Math.min(best.cell.width, best.cell.height);
  if (seen >= SMALLEST && best.area >= SMALLEST ** 2 * 0.6) return { ...best, scrolls: false };
  return scrolling(images, room, gap, foot);
}

/** @returns {Plan & {area: number}} all images at once in so many columns; `area`: of the average image */
function columns(images, room, count, gap, foot) {
  const rows = Math.ceil(images.length / count);
  const cell = {
    width: Math.floor((room.width - gap * (count - 1)) / count),
    height: Math.floor((room.height - gap * (rows - 1)) / rows) - foot,
  };
  if (cell.width < 1 || cell.height < 1) return { columns: count, cell, area: 0 };
  const sizes = images.map((image) => fit(image, cell));
  const widest = Math.max(...sizes.map((size) => size.width), 96); // room for the buttons below
  const highest = Math.max(...sizes.map((size) => size.height));
  const area = sizes.reduce((sum, size) => sum + size.width * size.height, 0) / images.length;
  return { columns: count, cell: { width: Math.min(cell.width, widest), height: highest }, area };
}

/** @returns {Plan} columns as wide as a thumb wants them, each cell as high as its usual image */
function scrolling(images, room, gap, foot) {
  const shapes = images.map(({ width, height }) => height / width).sort((a, b) => a - b);
  const usual = shapes[Math.floor(shapes.length / 2)];
  const wanted = usual < 0.5 ? 300 : 160;
  const count = Math.max(1, Math.min(images.length, Math.floor((room.width + gap) / (wanted + gap))));
  const width = Math.floor((room.width - gap * (count - 1)) / count);
  const height = Math.round(width * Math.min(1.5, Math.max(0.4, usual)));
  const most = Math.max(SMALLEST, room.height - foot);
  return { columns: count, cell: { width, height: Math.min(height, most) }, scrolls: true };
}
