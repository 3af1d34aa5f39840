//! The table of `docs/ENDINGS.md`, read.

/// One row; cells without their back quotes.
#[derive(Clone, Debug)]
pub struct Row {
    pub ending: String,
    pub write: String,
    pub executed: String,
    pub retry: String,
    pub record: String,
    pub again: String,
    pub turn: String,
    pub version: String,
    pub read: String,
}

/// Stands in a cell that says nothing.
pub const NOTHING: &str = "–";

impl Row {
    /// The name of the test that plays it.
    pub fn test_name(&self) -> String {
        self.ending.replace([' ', '.'], "_")
    }

    pub fn of(test_name: &str) -> Row {
        let row = rows().into_iter().find(|row| row.test_name() == test_name);
        row.unwrap_or_else(|| panic!("docs/ENDINGS.md has no row {test_name:?}"))
    }
}

pub fn rows() -> Vec<Row> {
    let text = include_str!("../../docs/ENDINGS.md");
    let lines = text.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    lines.take_while(|line| line.starts_with('|')).map(row).collect()
}

fn row(line: &str) -> Row {
    let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', ""));
    let cells: Vec<String> = cells.collect();
    let [ending, write, executed, retry, record, again, turn, version, read] =
        <[String; 9]>::try_from(cells).unwrap_or_else(|cells| panic!("{} cells: {line}", cells.len()));
    Row { ending, write, executed, retry, record, again, turn, version, read }
}
