// What browsers have and TypeScript 4.8 does not know yet.

interface CanvasRenderingContext2D {
  roundRect(x: number, y: number, width: number, height: number, radii: number): void;
}
