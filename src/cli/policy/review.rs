//! What the commands that review policies have in common: questions, rows and CSV.

use std::net::{IpAddr, Ipv4Addr};

use crate::access::Rule;
use crate::cli::out::printable;
use crate::policy::review::access::From;

/// What stays the same in all questions of a review.
#[derive(Debug, clap::Args)]
pub(super) struct Origin {
    /// The host asked for, for policies that look at r.host
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    host: String,
    /// The client's address, for policies that look at r.ip
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    ip: IpAddr,
}

impl Origin {
    pub(super) fn from(&self) -> From {
        From { host: self.host.clone(), ip: self.ip }
    }
}

/// `file:line: row`, or what stands for no row.
pub(super) fn by(rule: Option<&Rule>) -> String {
    rule.map_or_else(
        || "no row".to_owned(),
        |rule| printable(&format!("{}:{}: {}", rule.file, rule.line, rule.text)),
    )
}

/// One line of CSV (RFC 4180 §2), without its end.
pub(super) fn csv(fields: &[&str]) -> String {
    let quoted = |field: &&str| {
        if field.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            (*field).to_owned()
        }
    };
    fields.iter().map(quoted).collect::<Vec<_>>().join(",")
}

/// Rows of a table under their headings, each column as wide as it must be, the last one as it is.
pub(super) fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    let widths: [usize; N] = std::array::from_fn(|at| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        cells.chain(heads.get(at).map(|head| head.len())).max().unwrap_or(0)
    });
    let line = |cells: &[String]| {
        let padded: Vec<String> =
            cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    std::iter::once(line(&heads.map(str::to_owned))).chain(rows.iter().map(|row| line(row))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_csv_is_quoted_where_it_must_be() {
        assert_eq!(csv(&["a", "b,c", "say \"x\""]), "a,\"b,c\",\"say \"\"x\"\"\"");
    }

    #[test]
    fn columns_of_a_table_stand_under_one_another() {
        let rows = [["user:a".to_owned(), "x".to_owned()], ["b".to_owned(), String::new()]];
        assert_eq!(table(["WHO", "BY"], &rows), ["WHO     BY", "user:a  x", "b"]);
    }
}
