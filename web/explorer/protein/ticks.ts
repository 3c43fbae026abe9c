/** Return round numbers from `first` to `last`, about `count` of them, with `first` itself. */
export function ticks(first: number, last: number, count: number): number[] {
  if (last <= first) return [first];
  const rough = (last - first) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough)!);
  const found = [first];
  for (let tick = Math.ceil((first + step / 2) / step) * step; tick <= last; tick += step) found.push(tick);
  return found;
}
