//! What an object is, for whoever does not have its trait: interfaces, methods, arguments, documentation.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::interface::{Interface, Method};

/// What an object can do, as its host tells (PROTOCOL.md § 13.4). `Display` writes it down as traits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Description {
    /// The interface as handed out, then those that it extends, each once.
    pub interfaces: Vec<InterfaceDescription>,
    /// What it answers by itself, of what every object can be asked: `str`, `eq`, `hash`, `len`, `index`, `iter` and
    /// `copy`, as its `impl` says in `#[remote(..)]`. Empty if its host is older.
    pub operations: Vec<String>,
}

/// An interface, as its host has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct InterfaceDescription {
    /// Its name.
    pub name: String,
    /// Its major version.
    pub version: u16,
    /// Its documentation.
    pub doc: String,
    /// The names of those that it extends by itself.
    pub extends: Vec<String>,
    /// Its methods, in the order of their declaration.
    pub methods: Vec<MethodDescription>,
}

/// A method, as its host has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct MethodDescription {
    /// Its name.
    pub name: String,
    /// Its documentation.
    pub doc: String,
    /// Its arguments.
    pub arguments: Vec<ArgumentDescription>,
    /// The return type, as written.
    pub result: String,
    /// Whether it is an `async fn`.
    pub is_async: bool,
    /// The property that it reads or writes, if it does: without arguments it reads.
    pub property: Option<String>,
    /// Whether it only looks: `#[reads]`, or the getter of a property.
    pub reads: bool,
}

/// An argument of a method.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ArgumentDescription {
    /// Its name.
    pub name: String,
    /// Its type, as written.
    pub of: String,
}

impl Description {
    /// That of an object of this process which is handed out as `interface`, without operations, which are the object's.
    #[must_use]
    pub fn of(interface: &'static Interface) -> Self {
        let lineage = interface.lineage();
        Self {
            interfaces: lineage.into_iter().map(InterfaceDescription::of).collect(),
            operations: Vec::new(),
        }
    }

    /// That of an object without a trait, of an interface of that name, which has no methods so far.
    #[must_use]
    pub fn by_name(name: impl Into<String>) -> Self {
        Self {
            interfaces: vec![InterfaceDescription {
                name: name.into(),
                version: 1,
                ..InterfaceDescription::default()
            }],
            operations: Vec::new(),
        }
    }

    /// The same with that documentation of the object.
    #[must_use]
    pub fn with_doc(mut self, doc: impl Into<String>) -> Self {
        if let Some(interface) = self.interfaces.first_mut() {
            interface.doc = doc.into();
        }
        self
    }

    /// The same with one more method.
    #[must_use]
    pub fn with_method(mut self, method: MethodDescription) -> Self {
        if let Some(interface) = self.interfaces.first_mut() {
            interface.methods.push(method);
        }
        self
    }

    /// The same with one more operation, by its name.
    #[must_use]
    pub fn with_operation(mut self, name: impl Into<String>) -> Self {
        self.operations.push(name.into());
        self
    }

    /// All methods, those of the nearest interface first.
    pub fn methods(&self) -> impl Iterator<Item = &MethodDescription> {
        self.interfaces.iter().flat_map(|interface| &interface.methods)
    }

    /// The method of that name, or else the one that reads or writes the property of that name.
    #[must_use]
    pub fn method(&self, name: &str) -> Option<&MethodDescription> {
        let named = self.methods().find(|method| method.name == name);
        named.or_else(|| {
            self.methods()
                .find(|method| method.property.as_deref() == Some(name))
        })
    }

    /// The names of all methods and properties, sorted, each once. Those of methods that read and write properties
    /// are left out.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let name = |method: &MethodDescription| method.property.as_ref().unwrap_or(&method.name).clone();
        let mut names: Vec<String> = self.methods().map(name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether it can be used as the interface of that name and version.
    #[must_use]
    pub fn is(&self, name: &str, version: u16) -> bool {
        self.interfaces
            .iter()
            .any(|interface| interface.name == name && interface.version == version)
    }
}

impl InterfaceDescription {
    fn of(interface: &'static Interface) -> Self {
        Self {
            name: interface.name.into(),
            version: interface.version,
            doc: interface.doc.into(),
            extends: interface
                .parents
                .iter()
                .map(|parent| parent.name.into())
                .collect(),
            methods: interface.methods.iter().map(MethodDescription::of).collect(),
        }
    }
}

impl MethodDescription {
    /// A method of that name, of which nothing else is known.
    #[must_use]
    pub fn by_name(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// A property of that name that can be read.
    #[must_use]
    pub fn property(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            property: Some(name.clone()),
            name,
            reads: true,
            ..Self::default()
        }
    }

    /// The same with that documentation.
    #[must_use]
    pub fn with_doc(mut self, doc: impl Into<String>) -> Self {
        self.doc = doc.into();
        self
    }

    fn of(method: &Method) -> Self {
        let arguments = method.arguments.iter().map(|argument| ArgumentDescription {
            name: argument.name.into(),
            of: argument.of.into(),
        });
        Self {
            name: method.name.into(),
            doc: method.doc.into(),
            arguments: arguments.collect(),
            result: method.result.into(),
            is_async: method.is_async,
            property: method.getter().or_else(|| method.setter()).map(Into::into),
            reads: method.only_reads(),
        }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, interface) in self.interfaces.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{interface}")?;
        }
        if !self.operations.is_empty() {
            writeln!(f, "\n// answers {}", self.operations.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for InterfaceDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        doc(f, "", &self.doc)?;
        write!(f, "trait {}", self.name)?;
        // Without one where objects answer by name alone.
        if self.version > 1 {
            write!(f, " /* version {} */", self.version)?;
        }
        if !self.extends.is_empty() {
            write!(f, ": {}", self.extends.join(" + "))?;
        }
        f.write_str(" {\n")?;
        for method in &self.methods {
            doc(f, "    ", &method.doc)?;
            if method.property.is_some() {
                f.write_str("    #[property]\n")?;
            } else if method.reads {
                f.write_str("    #[reads]\n")?;
            }
            writeln!(f, "    {method};")?;
        }
        f.write_str("}\n")
    }
}

/// The signature: `async fn voltage(channel: u8) -> Result<f64>`; `fn voltage(..)` where no more is known.
impl fmt::Display for MethodDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_async {
            f.write_str("async ")?;
        }
        if self.result.is_empty() && self.arguments.is_empty() {
            return match self.property {
                Some(_) => f.write_str(&self.name),
                None => write!(f, "fn {}(..)", self.name),
            };
        }
        write!(f, "fn {}(", self.name)?;
        for (index, argument) in self.arguments.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}: {}", argument.name, argument.of)?;
        }
        write!(f, ") -> {}", self.result)
    }
}

fn doc(f: &mut fmt::Formatter<'_>, indent: &str, text: &str) -> fmt::Result {
    for line in text.lines() {
        writeln!(f, "{}", format_args!("{indent}/// {line}").to_string().trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Result, Value, from_value, remote, to_value};

    /// Above.
    #[remote(name = "test.Top")]
    trait Top {
        /// Goes.
        ///
        /// Far.
        async fn go(&self, far: Option<&str>, by: (u8, Vec<u8>)) -> Result<()>;
    }

    #[remote(name = "test.Left", version = 2)]
    trait Left: Top {
        #[property]
        fn shade(&self) -> Result<u8>;
        #[property]
        fn set_shade(&self, shade: u8) -> Result<()>;
    }

    #[remote]
    trait Right: Top {}

    #[remote(extends(Top))]
    trait Both: Left + Right {}

    #[test]
    fn a_description_reads_as_the_traits_do() {
        let described = Description::of(<dyn Both as crate::RemoteTrait>::INTERFACE);
        let text = "\
trait Both: test.Left + Right {
}

trait test.Left /* version 2 */: test.Top {
    #[property]
    fn shade() -> Result<u8>;
    #[property]
    fn set_shade(shade: u8) -> Result<()>;
}

trait Right: test.Top {
}

/// Above.
trait test.Top {
    /// Goes.
    ///
    /// Far.
    async fn go(far: Option<&str>, by: (u8, Vec<u8>)) -> Result<()>;
}
";
        assert_eq!(described.to_string(), text);
        assert_eq!(described.names(), ["go", "shade"]);
        assert!(described.is("test.Left", 2) && !described.is("test.Left", 1));
    }

    #[test]
    fn a_description_crosses_and_later_fields_are_skipped() {
        let described = Description::of(<dyn Left as crate::RemoteTrait>::INTERFACE);
        let value = to_value(&described).unwrap();
        assert_eq!(from_value::<Description>(&value).unwrap(), described);
        let later: Value = "{\"interfaces\": [{\"name\": \"a\", \"later\": [1]}], \"more\": 1}"
            .parse()
            .unwrap();
        let read: Description = from_value(&later).unwrap();
        assert_eq!(read.interfaces[0].name, "a");
        assert_eq!(read.interfaces[0].version, 0);
    }
}
