//! What was found, for people: tables in Markdown, and charts in SVG.

mod bars;
mod markdown;
mod svg;

pub(crate) use self::markdown::markdown;
pub(crate) use self::svg::svg;

/// What a contender is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// By hand, without RPC.
    Reference,
    Farref,
    /// farref in another way.
    Variant,
    Peer,
}

fn kind(contender: &str) -> Kind {
    match contender {
        "farref" | "netref" => Kind::Farref,
        "echo" | "echo-ct" | "std" | "quinn" | "arc" => Kind::Reference,
        _ if contender.starts_with("farref") => Kind::Variant,
        _ => Kind::Peer,
    }
}

/// Three digits, and commas between thousands.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    if value.abs() < 1000.0 {
        let digits = match value.abs() {
            100.0.. => 0,
            10.0.. => 1,
            0.095.. => 2,
            0.0095.. => 3,
            0.000_95.. => 4,
            0.0 => 0,
            _ => 6,
        };
        return format!("{value:.digits$}");
    }
    let unit = 10_f64.powf(value.abs().log10().floor() - 2.0);
    let sign = if value < 0.0 { "-" } else { "" };
    let digits = ((value / unit).round() * unit).abs() as u64;
    format!("{sign}{}", crate::workload::thousands(digits))
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_have_three_digits_and_commas() {
        let cases = [
            (1_234_567.0, "1,230,000"),
            (-1999.0, "-2,000"),
            (12_345.0, "12,300"),
            (999.4, "999"),
            (45.67, "45.7"),
            (1.005, "1.00"),
            (0.0123, "0.012"),
            (0.001_23, "0.0012"),
            (0.0, "0"),
            (f64::NAN, "–"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }
}
