//! Structs and enum variants: names that many records share, and the values of each.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::Value;

/// A name: of a type, a variant or a field. Those of serde types are literals.
pub(super) type Name = Cow<'static, str>;

/// A struct or an enum variant in a [`Value`]: its names, and the values of its fields.
///
/// ```
/// use farref_boxing::{Record, Value};
///
/// let circle = Record::tuple("Circle", [Value::from(3)]).variant_of("Shape");
/// assert_eq!(Value::from(circle).to_string(), "Shape::Circle(3)");
/// let point = Record::named("Point", [("x", 1.into()), ("y", 2.into())]);
/// assert_eq!(point.get("y"), Some(&Value::from(2)));
/// ```
///
/// # Invariant
///
/// There are as many values as `names` has fields.
#[derive(Clone)]
pub struct Record {
    names: Arc<Names>,
    values: Box<[Value]>,
}

/// The names that records of one form share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Names {
    /// Of the struct or enum.
    pub(super) type_name: Name,
    /// Of the variant, if it is one.
    pub(super) variant: Option<Name>,
    pub(super) fields: Fields,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Fields {
    /// `Point`
    Unit,
    /// `Point(1, 2)`: how many. One is a newtype variant.
    Tuple(usize),
    /// `Point {x: 1, y: 2}`
    Named(Box<[Name]>),
}

impl Names {
    pub(crate) fn new(type_name: &str, variant: Option<&str>, fields: Fields) -> Self {
        Self {
            type_name: type_name.to_owned().into(),
            variant: variant.map(|name| name.to_owned().into()),
            fields,
        }
    }

    /// How many fields there are.
    pub(super) fn len(&self) -> usize {
        match &self.fields {
            Fields::Unit => 0,
            Fields::Tuple(count) => *count,
            Fields::Named(names) => names.len(),
        }
    }
}

impl Record {
    /// A struct without fields, such as `Point`.
    #[must_use]
    pub fn unit(name: impl Into<Cow<'static, str>>) -> Self {
        Self::with_fields(name.into(), Fields::Unit, Box::default())
    }

    /// A struct whose fields have no names, such as `Point(1, 2)`.
    #[must_use]
    pub fn tuple(name: impl Into<Cow<'static, str>>, values: impl IntoIterator<Item = Value>) -> Self {
        let values: Box<[Value]> = values.into_iter().collect();
        Self::with_fields(name.into(), Fields::Tuple(values.len()), values)
    }

    /// A struct whose fields have names, such as `Point {x: 1, y: 2}`.
    #[must_use]
    pub fn named<N: Into<Cow<'static, str>>>(
        name: impl Into<Cow<'static, str>>,
        fields: impl IntoIterator<Item = (N, Value)>,
    ) -> Self {
        let (names, values): (Vec<Name>, Vec<Value>) = fields
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .unzip();
        Self::with_fields(name.into(), Fields::Named(names.into()), values.into())
    }

    /// What is a struct so far, as the variant of that name of an enum.
    #[must_use]
    pub fn variant_of(self, type_name: impl Into<Cow<'static, str>>) -> Self {
        let names = Arc::unwrap_or_clone(self.names);
        let variant = names.variant.unwrap_or(names.type_name);
        Self {
            names: Arc::new(Names {
                type_name: type_name.into(),
                variant: Some(variant),
                fields: names.fields,
            }),
            values: self.values,
        }
    }

    /// The name of the struct or enum.
    #[must_use]
    pub fn type_name(&self) -> &str {
        &self.names.type_name
    }

    /// The name of the variant, if it is one of an enum.
    #[must_use]
    pub fn variant(&self) -> Option<&str> {
        self.names.variant.as_deref()
    }

    /// The names of the fields, if they have names.
    #[must_use]
    pub fn field_names(&self) -> Option<impl ExactSizeIterator<Item = &str>> {
        match &self.names.fields {
            Fields::Named(names) => Some(names.iter().map(|name| &**name)),
            Fields::Unit | Fields::Tuple(_) => None,
        }
    }

    /// The fields, in order, with their names if they have names.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&str>, &Value)> {
        let mut names = self.field_names();
        let name = move || names.as_mut().and_then(Iterator::next);
        std::iter::repeat_with(name).zip(&self.values)
    }

    /// The values of the fields, in order.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The value of the field of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values
            .get(self.field_names()?.position(|found| found == name)?)
    }

    fn with_fields(type_name: Name, fields: Fields, values: Box<[Value]>) -> Self {
        let names = Names {
            type_name,
            variant: None,
            fields,
        };
        Self::from_parts(Arc::new(names), values)
    }

    /// A record of `names`, which has as many fields as there are values.
    pub(crate) fn from_parts(names: Arc<Names>, values: impl Into<Box<[Value]>>) -> Self {
        let values = values.into();
        debug_assert_eq!(names.len(), values.len());
        Self { names, values }
    }

    pub(super) const fn names(&self) -> &Arc<Names> {
        &self.names
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        (Arc::ptr_eq(&self.names, &other.names) || self.names == other.names) && self.values == other.values
    }
}

impl Eq for Record {}

impl Hash for Record {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.names.hash(state);
        self.values.hash(state);
    }
}
