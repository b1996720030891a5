//! What goes to standard output: lines, tables, and data as JSON.

use std::fmt::Write as _;
use std::io::{self, BufWriter, StdoutLock, Write};

use farref::{Record, Value};

use crate::context::Global;

/// Standard output of one command.
pub(crate) struct Out {
    to: BufWriter<StdoutLock<'static>>,
    has_colours: bool,
    is_quiet: bool,
}

impl Out {
    pub(crate) fn new(global: &Global) -> Self {
        Self {
            to: BufWriter::new(io::stdout().lock()),
            has_colours: global.colours(),
            is_quiet: global.quiet || global.json,
        }
    }

    /// One line.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.to, "{text}")
    }

    /// One line for people: it is no data, and left out with `--quiet` and `--json`.
    pub(crate) fn note(&mut self, text: &str) -> io::Result<()> {
        if self.is_quiet { Ok(()) } else { self.line(text) }
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)
    }

    /// One value as JSON, on one line.
    pub(crate) fn json(&mut self, value: &Value) -> io::Result<()> {
        let mut text = String::new();
        json(value, &mut text);
        self.line(&text)
    }

    /// A line that stands above others.
    pub(crate) fn heading(&mut self, text: &str) -> io::Result<()> {
        let text = paint(self.has_colours, BOLD, text);
        self.line(&text)
    }

    /// A name and what it is.
    pub(crate) fn pair(&mut self, name: &str, text: &str) -> io::Result<()> {
        let name = paint(self.has_colours, DIM, &format!("{name:<12}"));
        self.line(&format!("{name} {text}"))
    }

    /// Rows under their heads; `nothing` if there are none.
    pub(crate) fn table(&mut self, heads: &[&str], rows: Vec<Vec<String>>, nothing: &str) -> io::Result<()> {
        if rows.is_empty() {
            return self.line(nothing);
        }
        let text = table(heads, &rows, self.has_colours);
        self.line(&clip(&tame(text.trim_end()), width()))
    }

    /// A value for people.
    pub(crate) fn value(&mut self, value: &Value) -> io::Result<()> {
        let text = shown(value, self.has_colours);
        // Text is what it is; only tables are cut.
        let width = if value.as_str().is_some() { None } else { width() };
        self.line(&clip(&tame(&text), width))
    }

    /// Writes out what was held back: to be called at the end, and before waiting.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    /// The end: everything is written.
    pub(crate) fn finish(mut self) -> Result<(), crate::failure::Failure> {
        Ok(self.flush()?)
    }
}

pub(crate) const BOLD: &str = "1";
pub(crate) const DIM: &str = "2";
pub(crate) const RED: &str = "31";
pub(crate) const CYAN: &str = "36";

/// `text` in a colour, where there may be colours.
pub(crate) fn paint(has_colours: bool, colour: &str, text: &str) -> String {
    if has_colours {
        format!("\u{1b}[{colour}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

/// A JSON object.
pub(crate) fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Map(
        fields
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect(),
    )
}

/// What came from elsewhere, without anything that a terminal would obey.
pub(crate) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if char == '\n' || char == '\t' || !char.is_control() {
            out.push(char);
        } else {
            out.extend(char.escape_default());
        }
    }
    out
}

/// The same, but for colours, which do no harm: names of fields are the peer's as well.
pub(crate) fn tame(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('\u{1b}') {
        out.push_str(&harmless(before));
        let end = behind
            .find(|c: char| !matches!(c, '[' | ';' | '0'..='9'))
            .unwrap_or(0);
        let is_colour =
            behind.starts_with('[') && behind.get(end..).is_some_and(|rest| rest.starts_with('m'));
        out.push_str(if is_colour { "\u{1b}" } else { "\\u{1b}" });
        rest = behind;
    }
    out.push_str(&harmless(rest));
    out
}

/// A value for people: text as it is, structs with a field on each line, lists of structs as tables.
pub(crate) fn shown(value: &Value, has_colours: bool) -> String {
    match value {
        Value::Str(text) => harmless(text),
        Value::List(items) if !items.is_empty() => match tabular(items) {
            Some((heads, rows)) => {
                let heads: Vec<_> = heads.iter().map(String::as_str).collect();
                table(&heads, &rows, has_colours).trim_end().to_owned()
            }
            None => long(value),
        },
        Value::Record(record) if record.field_names().is_some() && record.variant().is_none() => {
            fields(record, has_colours)
        }
        _ => long(value),
    }
}

/// A value on one line if it fits, else on many.
fn long(value: &Value) -> String {
    let line = value.to_string();
    if line.chars().count() <= 78 {
        line
    } else {
        format!("{value:#}")
    }
}

fn fields(record: &Record, has_colours: bool) -> String {
    let names = || record.field_names().into_iter().flatten();
    let width = names().map(str::len).max().unwrap_or(0);
    let mut out = String::new();
    for (name, value) in record.iter() {
        let name = paint(has_colours, DIM, &format!("{:<width$}", name.unwrap_or_default()));
        let text = cell(value);
        let _ = writeln!(out, "{name}  {text}");
    }
    out.trim_end().to_owned()
}

/// The heads and rows of a table, if all are structs of one form. What is a struct in each row is spread out.
fn tabular(items: &[Value]) -> Option<(Vec<String>, Vec<Vec<String>>)> {
    let first = items.first()?.as_record()?;
    let is_plain = |record: &Record| record.variant().is_none() && record.field_names().is_some();
    let is_alike = |record: &Record, other: &Record| {
        is_plain(record)
            && record.type_name() == other.type_name()
            && record.values().len() == other.values().len()
    };
    let records: Option<Vec<&Record>> = items
        .iter()
        .map(|item| item.as_record().filter(|record| is_alike(record, first)))
        .collect();
    let records = records?;
    let (mut heads, mut rows) = (Vec::new(), vec![Vec::new(); records.len()]);
    for (at, name) in first.field_names()?.enumerate() {
        let column: Vec<&Value> = records
            .iter()
            .filter_map(|record| record.values().get(at))
            .collect();
        let inner = column
            .first()
            .and_then(|value| value.as_record())
            .filter(|inner| is_plain(inner) && date(inner).is_none());
        let inner = inner.filter(|inner| {
            column
                .iter()
                .all(|value| value.as_record().is_some_and(|record| is_alike(record, inner)))
        });
        match inner {
            None => {
                heads.push(name.to_uppercase());
                for (row, value) in rows.iter_mut().zip(&column) {
                    row.push(cell(value));
                }
            }
            Some(inner) => {
                heads.extend(inner.field_names()?.map(str::to_uppercase));
                for (row, value) in rows.iter_mut().zip(&column) {
                    row.extend(value.as_slice().unwrap_or_default().iter().map(cell));
                }
            }
        }
    }
    Some((heads, rows))
}

/// A point in time, if a struct is one, as a date in UTC.
fn date(record: &Record) -> Option<String> {
    let is_time = record.type_name() == "Time" && record.values().len() == 2;
    let seconds = record.get("seconds").filter(|_| is_time)?.as_i64()?;
    let nanos = record.get("nanos")?.as_u64()?.try_into().ok()?;
    Some(crate::ls::date(farref::files::Time { seconds, nanos }))
}

/// Lines that are no wider than a terminal; what is cut off is marked.
pub(crate) fn clip(text: &str, width: Option<usize>) -> String {
    let Some(width) = width.filter(|width| *width > 8) else {
        return text.to_owned();
    };
    let lines: Vec<_> = text.lines().map(|line| clip_line(line, width)).collect();
    lines.join("\n")
}

fn clip_line(line: &str, width: usize) -> String {
    let (mut out, mut count, mut is_escape) = (String::new(), 0_usize, false);
    for char in line.chars() {
        // Colours take no room, and are kept: the last of them puts things back.
        is_escape = is_escape || char == '\u{1b}';
        if is_escape {
            out.push(char);
            is_escape = char != 'm';
            continue;
        }
        count = count.saturating_add(1);
        if count < width {
            out.push(char);
        } else if count == width {
            out.push('…');
        }
    }
    // Exactly as wide as it may be: nothing was cut off.
    if count <= width { line.to_owned() } else { out }
}

/// Characters in a line of the terminal that standard output is.
pub(crate) fn width() -> Option<usize> {
    #[cfg(unix)]
    {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        Some(usize::from(size.ws_col)).filter(|width| *width > 0)
    }
    #[cfg(not(unix))]
    None
}

/// Whether a list of these is shown as a table.
pub(crate) fn is_table(items: &[Value]) -> bool {
    tabular(items).is_some()
}

/// A value within a table.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Str(text) => harmless(text).replace(['\n', '\t'], " "),
        Value::Record(record) => match (record.variant(), record.values()) {
            (Some(variant), []) => variant.to_owned(),
            _ => date(record).unwrap_or_else(|| value.to_string()),
        },
        value => value.to_string(),
    }
}

/// Rows under their heads. Numbers are set to the right; the last column is as wide as it is.
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>], has_colours: bool) -> String {
    let count = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = heads.iter().map(|head| count(head)).collect();
    let mut numbers = vec![!rows.is_empty(); heads.len()];
    for row in rows {
        for ((cell, width), is_number) in row.iter().zip(&mut widths).zip(&mut numbers) {
            *width = (*width).max(count(cell));
            *is_number = *is_number
                && cell.starts_with(|c: char| c.is_ascii_digit() || c == '-')
                && !cell.contains(['-', ' ', ':']);
        }
    }
    let mut out = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>, colour: Option<&str>| {
        let mut text = String::new();
        for ((cell, width), is_number) in cells.zip(&widths).zip(&numbers) {
            let padding = " ".repeat(width.saturating_sub(count(cell)));
            let (before, behind) = if *is_number {
                (padding.as_str(), "")
            } else {
                ("", padding.as_str())
            };
            let _ = write!(text, "{before}{cell}{behind}  ");
        }
        let text = text.trim_end();
        let text = colour.map_or_else(|| text.to_owned(), |colour| paint(has_colours, colour, text));
        let _ = writeln!(out, "{text}");
    };
    line(&mut heads.iter().copied(), Some(BOLD));
    for row in rows {
        line(&mut row.iter().map(String::as_str), None);
    }
    out
}

/// A value as JSON. What JSON lacks becomes the nearest that it has: bytes a string of base64, structs objects, variants
/// objects of one field or a string, references a string.
pub(crate) fn json(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(_) | Value::UInt(_) => {
            let _ = write!(out, "{value}");
        }
        Value::Single(number) => float(f64::from(*number), out),
        Value::Float(number) => float(*number, out),
        Value::Char(char) => string(char.encode_utf8(&mut [0; 4]), out),
        Value::Str(text) => string(text, out),
        Value::Bytes(bytes) => string(&base64(bytes), out),
        Value::Some(value) => json(value, out),
        Value::List(values) | Value::Tuple(values) => list(values, out),
        Value::Map(entries) => {
            let entries = entries.iter().map(|(key, value)| match key.as_str() {
                Some(key) => (key.to_owned(), value),
                None => (key.to_string(), value),
            });
            object(entries, out);
        }
        Value::Record(record) => match record.variant() {
            Some(variant) if record.values().is_empty() => string(variant, out),
            Some(variant) => {
                out.push('{');
                string(variant, out);
                out.push(':');
                body(record, out);
                out.push('}');
            }
            None => body(record, out),
        },
        _ => string("<reference>", out),
    }
}

fn body(record: &Record, out: &mut String) {
    match (record.field_names(), record.values()) {
        (Some(_), _) => object(
            record
                .iter()
                .map(|(name, value)| (name.unwrap_or_default().to_owned(), value)),
            out,
        ),
        (None, [only]) => json(only, out),
        (None, values) => list(values, out),
    }
}

fn list(values: &[Value], out: &mut String) {
    out.push('[');
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        json(value, out);
    }
    out.push(']');
}

fn object<'a>(entries: impl Iterator<Item = (String, &'a Value)>, out: &mut String) {
    out.push('{');
    for (index, (name, value)) in entries.enumerate() {
        if index > 0 {
            out.push(',');
        }
        string(&name, out);
        out.push(':');
        json(value, out);
    }
    out.push('}');
}

/// JSON has no infinite numbers.
fn float(number: f64, out: &mut String) {
    if number.is_finite() {
        let _ = write!(out, "{number:?}");
    } else {
        out.push_str("null");
    }
}

fn string(text: &str, out: &mut String) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            char if char.is_control() => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            char => out.push(char),
        }
    }
    out.push('"');
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .zip([16_u32, 8, 0])
            .fold(0_u32, |group, (byte, shift)| group | u32::from(*byte) << shift);
        for (index, shift) in [18_u32, 12, 6, 0].into_iter().enumerate() {
            let digit = DIGITS
                .get((group >> shift & 63) as usize)
                .copied()
                .unwrap_or(b'=');
            out.push(if index <= chunk.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    out
}

/// `1 file`, `2 files`.
pub(crate) fn counted(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}

/// A number of bytes, in the largest unit that leaves digits: `1.4 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    let mut number = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if number < 1024.0 {
            return match unit {
                "B" => format!("{bytes} B"),
                unit => format!("{number:.1} {unit}"),
            };
        }
        number /= 1024.0;
    }
    format!("{number:.1} TiB")
}

/// A time, in the unit that leaves three digits: `0.21 ms`.
pub(crate) fn time(of: std::time::Duration) -> String {
    let seconds = of.as_secs_f64();
    match seconds {
        s if s < 1e-3 => format!("{:.0} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.2} s"),
        s => format!("{:.0} min", s / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_json(text: &str) -> String {
        let mut out = String::new();
        json(&text.parse().unwrap(), &mut out);
        out
    }

    #[test]
    fn each_kind_of_value_has_its_json() {
        for (text, expected) in [
            ("null", "null"),
            ("-3", "-3"),
            ("1.5", "1.5"),
            ("inf", "null"),
            ("'c'", "\"c\""),
            ("\"a\\\"\\n\\u{1}\"", "\"a\\\"\\n\\u0001\""),
            ("b\"\"", "\"\""),
            ("b\"f\"", "\"Zg==\""),
            ("b\"fo\"", "\"Zm8=\""),
            ("b\"foobar\"", "\"Zm9vYmFy\""),
            ("[1, (2, 3)]", "[1,[2,3]]"),
            ("{a: 1, 2: 3}", "{\"a\":1,\"2\":3}"),
            ("Point {x: 1}", "{\"x\":1}"),
            ("Shape::Circle(3)", "{\"Circle\":3}"),
            ("Shape::None", "\"None\""),
            ("Pair(1, 2)", "[1,2]"),
        ] {
            assert_eq!(as_json(text), expected, "{text}");
        }
    }

    #[test]
    fn structs_are_fields_and_lists_of_them_are_tables() {
        let shown = |text: &str| shown(&text.parse().unwrap(), false);
        assert_eq!(shown("\"a\\nb\""), "a\nb");
        assert_eq!(shown("Point {x: 1, long: \"b\"}"), "x     1\nlong  b");
        assert_eq!(
            shown("[P {name: \"a\", n: 1}, P {name: \"bcdef\", n: 200}]"),
            "NAME     N\na        1\nbcdef  200"
        );
        assert_eq!(shown("[1, 2]"), "[1, 2]");
        assert_eq!(shown("[]"), "[]");
        let many = format!("[{}]", "12345678, ".repeat(10));
        assert_eq!(shown(&many).lines().count(), 12);
    }

    #[test]
    fn structs_within_structs_are_spread_out_and_times_are_dates() {
        let of = |text: &str| shown(&text.parse().unwrap(), false);
        let row = "E {path: \"a\", m: M {len: 1, at: Time {seconds: 0, nanos: 0}}}";
        assert_eq!(
            of(&format!("[{row}, {row}]")).lines().next(),
            Some("PATH  LEN  AT")
        );
        assert_eq!(
            of(&format!("[{row}]")).lines().nth(1),
            Some("a       1  1970-01-01 00:00")
        );
        // Not in each row: it stays what it is.
        assert_eq!(of("[E {m: M {a: 1}}, E {m: null}]"), "M\nM {a: 1}");
    }

    #[test]
    fn lines_are_cut_to_the_width_of_a_terminal_and_colours_are_not() {
        assert_eq!(clip("0123456789\nab", Some(10)), "0123456789\nab");
        assert_eq!(clip("0123456789x", Some(10)), "012345678…");
        let red = format!("{}!", paint(true, RED, "0123456789"));
        assert_eq!(clip(&red, Some(10)), "\u{1b}[31m012345678…\u{1b}[0m");
        assert_eq!(clip("0123456789x", None), "0123456789x");
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_printed() {
        assert_eq!(harmless("a\u{1b}[2Jb\tc\n"), "a\\u{1b}[2Jb\tc\n");
        let coloured = paint(true, RED, "x");
        assert_eq!(tame(&coloured), coloured);
        assert_eq!(
            tame("\u{1b}[2J\u{1b}]0;t\u{7}\u{1b}"),
            "\\u{1b}[2J\\u{1b}]0;t\\u{7}\\u{1b}"
        );
    }

    #[test]
    fn sizes_and_times_have_units() {
        assert_eq!(
            [0, 1023, 1024, 3 << 19].map(size),
            ["0 B", "1023 B", "1.0 KiB", "1.5 MiB"]
        );
        let times = [12, 1500, 2_000_000].map(|micros| time(std::time::Duration::from_micros(micros)));
        assert_eq!(times, ["12 us", "1.50 ms", "2.00 s"]);
    }
}
