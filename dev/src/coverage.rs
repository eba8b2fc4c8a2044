//! docs/coverage.md and docs/unbrickable.md as data: which promise is proven by which test.
//!
//! A table row is `| promise | tests |`, or has a figure in a third column; each test is in back-quotes by its full name, `package::module::test` for a unit test and
//! `package::file::test` for one in `tests/`. A row without a test is a problem, and so is a name of another shape.

/// One promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub line: usize,
    pub promise: String,
    pub tests: Vec<String>,
}

/// The page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub rows: Vec<Row>,
    pub problems: Vec<String>,
}

/// Reads every table of the page.
pub fn parse(text: &str) -> Table {
    let mut table = Table::default();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let Some(cells) = cells(line) else { continue };
        let ([promise, tests] | [promise, tests, _]) = cells[..] else {
            table.problems.push(format!("line {line_number} has {} columns, not 2 or 3", cells.len()));
            continue;
        };
        if is_header(promise, tests) {
            continue;
        }
        let tests: Vec<String> = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        if promise.is_empty() || tests.is_empty() {
            table.problems.push(format!(
                "line {line_number} names no {}",
                if promise.is_empty() { "promise" } else { "test" }
            ));
        }
        for test in tests.iter().filter(|test| !is_name(test)) {
            table.problems.push(format!("line {line_number}: `{test}` is not package::…::test"));
        }
        table.rows.push(Row { line: line_number, promise: promise.to_owned(), tests });
    }
    if table.rows.is_empty() {
        table.problems.push("no row at all".to_owned());
    }
    table
}

fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

fn is_header(promise: &str, tests: &str) -> bool {
    let rule = |cell: &str| !cell.is_empty() && cell.bytes().all(|b| b == b'-' || b == b':');
    (rule(promise) && rule(tests))
        || (promise.eq_ignore_ascii_case("promise") && tests.eq_ignore_ascii_case("tests"))
}

fn is_name(name: &str) -> bool {
    let parts: Vec<&str> = name.split("::").collect();
    let plain = |part: &&str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    };
    parts.len() >= 2 && parts.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_gives_its_promise_and_its_tests() {
        let table = parse(
            "# Coverage\n\n| promise | tests |\n|---|---|\n| it holds | `wire::id::holds`, `svc-ota::upload::holds` |\n\
             | so | `a::b` | 62 `ms` |\n",
        );
        assert_eq!(table.problems, Vec::<String>::new());
        let row = &table.rows[0];
        assert_eq!((row.line, row.promise.as_str()), (5, "it holds"));
        assert_eq!(row.tests, ["wire::id::holds", "svc-ota::upload::holds"]);
        assert_eq!(table.rows[1].tests, ["a::b"], "a figure is none");
    }

    #[test]
    fn a_row_that_proves_nothing_is_a_problem() {
        for (row, problem) in [
            ("| a promise | later |", "names no test"),
            ("|  | `a::b` |", "names no promise"),
            ("| a promise | `nothing` |", "is not package"),
            ("| a promise | `a::b c` |", "is not package"),
            ("| a | b | `a::b` |", "names no test"),
            ("| a | `a::b` | 4 | 5 |", "4 columns"),
            ("no table", "no row"),
        ] {
            let problems = parse(row).problems.join("\n");
            assert!(problems.contains(problem), "{row}: {problems}");
        }
    }
}
