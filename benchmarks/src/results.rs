//! What was found, as it is kept: every figure of every round.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::job::Sizes;
use crate::meter::Figures;
use crate::workload::Workload;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: String,
    pub(crate) tables: Vec<Table>,
}

/// One workload over one medium.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) workload: String,
    pub(crate) medium: String,
    pub(crate) pin: String,
    pub(crate) seconds: f64,
    pub(crate) sizes: Sizes,
    /// References first, if there are any.
    pub(crate) rows: Vec<Row>,
}

/// What one contender found, round by round.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) contender: String,
    /// With which row of the table it is compared, which may be this one.
    pub(crate) reference: Option<String>,
    pub(crate) rounds: Vec<Figures>,
    /// Why there are no more rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failed: Option<String>,
}

impl Results {
    /// The tables of all files together; the machine is that of the first.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut all: Option<Self> = None;
        for path in paths {
            let mut one: Self = serde_json::from_slice(&std::fs::read(path)?)?;
            match &mut all {
                Some(all) => all.tables.append(&mut one.tables),
                None => all = Some(one),
            }
        }
        Ok(all.unwrap_or_default())
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(std::fs::write(path, text)?)
    }

    /// The row of a contender in a workload over a medium with processes pinned so, and its table.
    pub(crate) fn row_pinned(
        &self,
        workload: Workload,
        medium: &str,
        contender: &str,
        pin: &str,
    ) -> Option<(&Table, &Row)> {
        let name = workload.to_string();
        let mut tables = self.tables.iter();
        tables.find_map(|table| {
            let is_it = table.workload == name && table.medium == medium && table.pin == pin;
            Some((table, table.row(contender).filter(|_| is_it)?))
        })
    }
}

impl Table {
    /// None if it is of a workload that this program does not know.
    pub(crate) fn workload(&self) -> Option<Workload> {
        self.workload.parse().ok()
    }

    pub(crate) fn row(&self, contender: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.contender == contender)
    }

    /// The median of the ratios to the reference of `row`, round by round.
    pub(crate) fn ratio(&self, row: &Row, figure: &str) -> f64 {
        let reference = row.reference.as_deref().and_then(|name| self.row(name));
        reference.map_or(f64::NAN, |reference| row.ratio(reference, figure))
    }
}

impl Row {
    fn all(&self, figure: &str) -> Vec<f64> {
        self.rounds
            .iter()
            .filter_map(|figures| figures.get(figure).copied())
            .collect()
    }

    /// Not a number if it was never found.
    pub(crate) fn median(&self, figure: &str) -> f64 {
        median(self.all(figure))
    }

    /// The least and the most of all rounds.
    pub(crate) fn spread(&self, figure: &str) -> [f64; 2] {
        let all = self.all(figure);
        [
            all.iter().copied().fold(f64::NAN, f64::min),
            all.iter().copied().fold(f64::NAN, f64::max),
        ]
    }

    /// The median of the ratios to `other`, round by round.
    pub(crate) fn ratio(&self, other: &Self, figure: &str) -> f64 {
        let rounds = self.rounds.iter().zip(&other.rounds);
        median(
            rounds
                .filter_map(|(mine, its)| Some(mine.get(figure)? / its.get(figure)?))
                .collect(),
        )
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}
