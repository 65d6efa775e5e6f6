// A reporter for Node's test runner: a JSON object a line for each test, with its full name.

import path from "node:path";

// The names of the tests that a test is part of, by file and depth: what is inside is reported first.
const open = new Map();

// A file without tests of this runner is a test itself, whose name is its whole path.
function fullName({ file, name, nesting }) {
  if (path.isAbsolute(name)) return path.basename(name);
  const names = open.get(file) ?? [];
  return [path.basename(file ?? ""), ...names.slice(0, nesting), name].map((part) => part.trim()).join(" > ");
}

function verdict(type, data) {
  if (data.skip !== undefined || data.todo !== undefined) return "skipped";
  return type === "test:pass" ? "passed" : "failed";
}

export default async function* report(source) {
  for await (const { type, data } of source) {
    if (type === "test:start") {
      const names = open.get(data.file) ?? [];
      names[data.nesting] = data.name;
      open.set(data.file, names);
    } else if (type === "test:pass" || type === "test:fail") {
      if (data.details?.type === "suite") continue;
      const error = data.details?.error;
      const reason = String(error?.cause?.stack ?? error?.cause ?? error?.message ?? "");
      yield `${JSON.stringify({ name: fullName(data), verdict: verdict(type, data), reason })}\n`;
    }
  }
}
