//! What an object of this side looks like to Python: its attributes, its special methods, its name.
//!
//! Policy is here: what is not found in a face does not exist for the peer. Names that begin with an underscore are never
//! taken from elsewhere than the lists below and what a trait declares as a special method.

use rustc_hash::FxHashMap;

use super::exception::Exception;
use crate::object::{Description, MethodDescription};

/// What an object looks like.
#[derive(Debug)]
pub(super) struct Face {
    /// The name under which it is handed out: what Python makes of it follows from that alone.
    pub(super) name: &'static str,
    /// The same for all objects with this face.
    pub(super) class: u64,
    pub(super) doc: String,
    /// What its type is called here, for messages.
    pub(super) title: String,
    attributes: FxHashMap<String, Attribute>,
    /// Special methods, which Python looks up on the type.
    pub(super) specials: Vec<String>,
    /// The one method, where calling the object is calling that.
    pub(super) only: Option<String>,
    /// It is a class, and calling it makes an object of it.
    pub(super) is_class: bool,
    /// What it does by itself, by the names of [`Dynamic`](crate::object::Dynamic)'s operations.
    operations: Vec<String>,
}

/// What a name of an object stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attribute {
    Method { doc: String },
    Property { can_be_read: bool, can_be_written: bool },
}

/// Python knows nothing of a type of this name but that it is an object, and asks nothing.
pub(super) const OBJECT: &str = "builtins.object";
/// Python asks for the special methods of a type of this name, and takes it for a class that it has.
pub(super) const NAMESPACE: &str = "types.SimpleNamespace";
/// A type that can be called.
pub(super) const FUNCTION: &str = "builtins.function";

impl Face {
    /// The face of what is described so. An object with a trait that has one method is called by that.
    pub(super) fn of(description: &Description, class: u64, has_trait: bool) -> Self {
        let mut attributes = FxHashMap::default();
        for method in description.methods() {
            if is_shown(&method.name) {
                add(&mut attributes, method);
            }
        }
        let interface = description.interfaces.first();
        let only = match description.interfaces.as_slice() {
            [one] if has_trait => match one.methods.as_slice() {
                [method] if is_shown(&method.name) && method.property.is_none() => Some(method.name.clone()),
                _ => None,
            },
            _ => None,
        };
        let operation = |operation: &String| match operation.as_str() {
            "len" => Some("__len__"),
            "index" => Some("__getitem__"),
            "iter" => Some("__iter__"),
            "call" | "class" => Some("__call__"),
            "set_index" => Some("__setitem__"),
            "delete_index" => Some("__delitem__"),
            "enter" => Some("__enter__"),
            _ => None,
        };
        let mut specials: Vec<String> = description
            .operations
            .iter()
            .filter_map(operation)
            .map(ToOwned::to_owned)
            .collect();
        if only.is_some() {
            specials.push("__call__".to_owned());
        }
        specials.extend(attributes.keys().filter(|name| name.starts_with("__")).cloned());
        let is_method = |name: &str| matches!(attributes.get(name), Some(Attribute::Method { .. }));
        if [ENTER, EXIT, CLOSE].into_iter().any(is_method) && !specials.iter().any(|name| name == "__enter__")
        {
            specials.push("__enter__".to_owned());
        }
        specials.sort_unstable();
        specials.dedup();
        Self {
            name: if specials.is_empty() { OBJECT } else { NAMESPACE },
            class,
            doc: interface
                .map(|interface| interface.doc.clone())
                .unwrap_or_default(),
            title: interface.map_or_else(|| "object".to_owned(), |interface| interface.name.clone()),
            attributes,
            specials,
            only,
            is_class: description.operations.iter().any(|name| name == "class"),
            operations: description.operations.clone(),
        }
    }

    /// What that name stands for, and the name as this side has it: without `exposed_` before it, which peers may write.
    pub(super) fn find<'a>(&self, name: &'a str) -> Option<(&'a str, &Attribute)> {
        let plain = name.strip_prefix(EXPOSED);
        let found = self.attributes.get(name).map(|attribute| (name, attribute));
        found.or_else(|| plain.and_then(|name| Some((name, self.attributes.get(name)?))))
    }

    /// Whether it has that method.
    pub(super) fn has_method(&self, name: &str) -> bool {
        matches!(self.find(name), Some((_, Attribute::Method { .. })))
    }

    /// Whether it does that by itself, which traits cannot say.
    pub(super) fn does(&self, operation: &str) -> bool {
        self.operations.iter().any(|known| known == operation)
    }

    /// Whether a name that it does not list may be asked for. Nothing in Python has a dot in its name; elsewhere what is before
    /// one is the name of an interface, and what looks private may be behind it.
    pub(super) fn is_open(&self, operation: &str, name: &str) -> bool {
        !name.starts_with('_') && !name.contains('.') && self.does(operation)
    }

    /// Whether Python finds that special method on its type.
    pub(super) fn has_special(&self, name: &str) -> bool {
        self.specials.iter().any(|known| known == name)
    }

    /// All names, sorted.
    pub(super) fn names(&self) -> Vec<&str> {
        let attributes = self.attributes.keys().map(String::as_str);
        let mut names: Vec<&str> = attributes
            .chain(self.specials.iter().map(String::as_str))
            .collect();
        names.push("__doc__");
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What is raised for a name that stands for nothing.
    pub(super) fn missing(&self, name: &str) -> Exception {
        if name.starts_with('_') {
            return inaccessible(name);
        }
        let near = crate::object::near_hint(name, self.attributes.keys().map(String::as_str));
        let (title, name) = (&self.title, crate::object::cut(name));
        Exception::new(
            "AttributeError",
            [format!("'{title}' object has no attribute '{name}'{near}")],
        )
    }
}

/// What is raised for a name that nobody may use, in the words of Python's own server.
pub(super) fn inaccessible(name: &str) -> Exception {
    let name = crate::object::cut(name);
    Exception::new("AttributeError", [format!("cannot access '{name}'")])
}

/// Whether a method of a trait is shown: not what looks private, but what looks like a special method of Python's.
fn is_shown(name: &str) -> bool {
    !name.starts_with('_') || SPECIAL.contains(&name)
}

/// Special methods that a trait may declare by their names in Python. Those that tell of the inside of an object are not
/// among them.
const SPECIAL: [&str; 44] = [
    "__abs__",
    "__add__",
    "__and__",
    "__bool__",
    "__contains__",
    "__delitem__",
    "__divmod__",
    "__float__",
    "__floordiv__",
    "__format__",
    "__getitem__",
    "__iadd__",
    "__iand__",
    "__imul__",
    "__index__",
    "__int__",
    "__invert__",
    "__ior__",
    "__isub__",
    "__iter__",
    "__len__",
    "__lshift__",
    "__matmul__",
    "__mod__",
    "__mul__",
    "__neg__",
    "__next__",
    "__or__",
    "__pos__",
    "__pow__",
    "__radd__",
    "__rand__",
    "__reversed__",
    "__rmul__",
    "__ror__",
    "__round__",
    "__rshift__",
    "__rsub__",
    "__rtruediv__",
    "__setitem__",
    "__sub__",
    "__truediv__",
    "__trunc__",
    "__xor__",
];

fn add(attributes: &mut FxHashMap<String, Attribute>, method: &MethodDescription) {
    let Some(property) = &method.property else {
        let doc = method.doc.clone();
        // The nearest interface counts.
        attributes
            .entry(method.name.clone())
            .or_insert(Attribute::Method { doc });
        return;
    };
    let new = Attribute::Property {
        can_be_read: false,
        can_be_written: false,
    };
    let known = attributes.entry(property.clone()).or_insert(new);
    if let Attribute::Property {
        can_be_read,
        can_be_written,
    } = known
    {
        *(if method.arguments.is_empty() {
            can_be_read
        } else {
            can_be_written
        }) = true;
    }
}

/// What peers may write before a name: the convention of RPyC's services.
const EXPOSED: &str = "exposed_";
/// Called when a context is entered, if there is such a method.
pub(super) const ENTER: &str = "enter";
/// Called when a context is left, with what went wrong.
pub(super) const EXIT: &str = "exit";
/// Called when a context is left, if there is no [`EXIT`].
pub(super) const CLOSE: &str = "close";
