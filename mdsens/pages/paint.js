// What the viewer paints: spheres, discs and arrows.

const ARROW = "#101010";

function paintSphere(context, x, y, r, color) {
  const shade = context.createRadialGradient(x - 0.35 * r, y - 0.4 * r, 0.05 * r, x, y, r);
  shade.addColorStop(0, blended(color, "#ffffff", 0.75));
  shade.addColorStop(0.35, blended(color, "#ffffff", 0.12));
  shade.addColorStop(0.8, blended(color, "#000000", 0.22));
  shade.addColorStop(1, blended(color, "#000000", 0.5));
  context.fillStyle = shade;
  context.beginPath();
  context.arc(x, y, r, 0, 2 * Math.PI);
  context.fill();
}

function paintDisc(context, at, color, fade) {
  context.beginPath();
  context.arc(at.x, at.y, at.r, 0, 2 * Math.PI);
  context.fillStyle = blended(color, "#ffffff", fade);
  context.fill();
  context.lineWidth = Math.min(0.8, 0.15 * at.r);
  context.strokeStyle = blended("#202020", "#ffffff", fade);
  context.stroke();
}

// An arrow with a white seam, which is seen on dark and on light.
function paintArrow(context, from, to) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const long = Math.hypot(dx, dy);
  if (long < 0.5) return;
  const [ux, uy] = [dx / long, dy / long];
  const head = Math.min(9, 0.6 * long);
  const [wide, thin] = [0.42 * head, Math.min(1.1, 0.15 * head + 0.3)];
  const neck = long - head;
  const outline = [[0, thin], [neck, thin], [neck, wide], [long, 0], [neck, -wide], [neck, -thin],
    [0, -thin]];
  context.beginPath();
  for (const [along, beside] of outline) {
    context.lineTo(from.x + ux * along - uy * beside, from.y + uy * along + ux * beside);
  }
  context.closePath();
  context.lineJoin = "round";
  context.lineWidth = 1.6;
  context.strokeStyle = "rgba(255,255,255,0.85)";
  context.stroke();
  context.fillStyle = ARROW;
  context.fill();
}
