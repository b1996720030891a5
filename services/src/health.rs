//! Whether a program is well, asked by whoever looks after it: a supervisor, a load balancer, a person.

use std::fmt;

use farref_boxing::{Error, Result};
use farref_netref::remote;
use serde::{Deserialize, Serialize};

/// A program that can be asked whether it is well. That it answers at all is the half of it.
#[remote(name = "farref.Health")]
pub trait Health {
    /// Looks, and tells of everything that was looked at. It may take as long as that does.
    ///
    /// # Errors
    ///
    /// Those of the call alone: what is wrong is a part of the answer.
    #[reads]
    fn check(&self) -> Result<Condition>;
}

/// How a program is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "peers read each other's by their shapes"
)]
pub struct Condition {
    /// What was looked at, in the order in which it was [named](Checks::with).
    pub checks: Vec<Checked>,
}

impl Condition {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.checks.iter().all(|checked| checked.trouble.is_none())
    }
}

impl fmt::Display for Condition {
    /// `well`, or what is wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_well() {
            return f.write_str("well");
        }
        let mut separator = "";
        for Checked { name, trouble } in &self.checks {
            if let Some(trouble) = trouble {
                write!(f, "{separator}{name}: {trouble}")?;
                separator = "; ";
            }
        }
        Ok(())
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "peers read each other's by their shapes"
)]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// What is wrong with it, in words.
    pub trouble: Option<String>,
}

/// What is looked at when somebody asks. Without any the answer is that the program is well.
///
/// ```
/// # use farref_services::health::{Checks, Health};
/// # use farref_netref::Netref;
/// let checks = Checks::new().with("disk", || {
///     std::fs::metadata("/")?;
///     Ok(())
/// });
/// let health: Netref<dyn Health> = Netref::of(checks);
/// ```
#[derive(Default)]
pub struct Checks(Vec<(String, Check)>);

type Check = Box<dyn Fn() -> Result<()> + Send + Sync>;

impl Checks {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at this as well. `check` may block; it is asked anew each time, by several at once.
    #[must_use]
    pub fn with(
        mut self,
        name: impl Into<String>,
        check: impl Fn() -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.0.push((name.into(), Box::new(check)));
        self
    }
}

#[remote]
impl Health for Checks {
    fn check(&self) -> Result<Condition> {
        let checks = self.0.iter().map(|(name, check)| Checked {
            name: name.clone(),
            trouble: check().err().as_ref().map(Error::to_string),
        });
        Ok(Condition {
            checks: checks.collect(),
        })
    }
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_by_name_and_the_rest_is_looked_at_all_the_same() {
        let checks = Checks::new()
            .with("line", || Err(Error::msg("no carrier")))
            .with("disk", || Ok(()))
            .with("fan", || Err(Error::msg("stands still")));
        let condition = checks.check().unwrap();
        assert!(!condition.is_well());
        assert_eq!(condition.checks.len(), 3);
        assert_eq!(condition.to_string(), "line: no carrier; fan: stands still");
        assert_eq!(Checks::new().check().unwrap().to_string(), "well");
    }
}
