//! docs/coverage.md names tests that exist. That they ran and passed, `cargo dev test` checks.

use std::path::Path;

use dev::coverage;

use crate::crates;

#[test]
fn every_promise_names_a_test_that_exists() {
    let text = std::fs::read_to_string(dev::root().join("docs/coverage.md")).expect("docs/coverage.md");
    let table = coverage::parse(&text);
    let mut problems = table.problems;
    let packages = crates::packages(dev::root());
    for row in &table.rows {
        for test in &row.tests {
            let (package, function) = (test.split("::").next(), test.rsplit("::").next());
            let mut dirs = packages.iter().filter(|p| Some(p.name.as_str()) == package).map(|p| &p.dir);
            if !dirs.any(|dir| has_function(dir, function.unwrap_or_default())) {
                problems.push(format!("line {}: no test `{test}`", row.line));
            }
        }
    }
    assert!(problems.is_empty(), "docs/coverage.md:\n{}", problems.join("\n"));
}

fn has_function(dir: &Path, name: &str) -> bool {
    let needle = format!("fn {name}(");
    ["src", "tests", "build"].iter().any(|folder| {
        let files = crate::files(&dir.join(folder))
            .into_iter()
            .filter(|file| file.extension().is_some_and(|e| e == "rs"));
        files
            .map(|file| dir.join(folder).join(file))
            .any(|file| std::fs::read_to_string(file).is_ok_and(|text| text.contains(&needle)))
    })
}
