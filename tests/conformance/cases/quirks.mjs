// What clients do against the standard, precisely, with the versions in package.json: what a test here says is
// in docs/streams.md, so a new version that mends it fails here and mends the table.
export const quirks = [];
