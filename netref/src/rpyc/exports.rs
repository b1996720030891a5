//! What of this side the peer holds, and how often it was handed over.

use std::sync::Arc;

use bytes::BytesMut;
use farref_boxing::ErrorKind;
use farref_boxing::rpyc as brine;
use farref_boxing::{Error, Value};
use rustc_hash::FxHashMap;

use super::exception::Exception;
use super::face::{FUNCTION, Face};
use super::imports::{Imports, gone};
use super::link::{Key, Link, Object};
use super::packs::{self, PackRef};
use super::wire::label;
use crate::lock::lock;
use crate::object::{Description, Operations};
use crate::protocol::Held;
use crate::remote::EngineHandles;

/// Exports by number, which is never given again.
///
/// # Invariant
///
/// `by_key` leads to every entry, and to nothing else.
#[derive(Debug, Default)]
pub(super) struct Exports {
    held: FxHashMap<u64, Export>,
    by_key: FxHashMap<Key, u64>,
    faces: FxHashMap<(u64, Operations), Arc<Face>>,
    /// Those of objects that tell by themselves what they can do, by where that is.
    told: FxHashMap<usize, (Arc<Description>, Arc<Face>)>,
    /// Numbers of classes, by interface.
    classes: FxHashMap<u64, u64>,
    /// Exports that are classes, by the numbers of these.
    by_class: FxHashMap<u64, u64>,
    last: u64,
    /// The number of what is shown first, which stays.
    root: Option<u64>,
    most: usize,
}

/// Something that the peer holds.
#[derive(Debug)]
pub(super) struct Export {
    /// Shared with the values in which the peer names it.
    pub(super) link: Arc<Link>,
    /// What it looks like, if it is an object.
    pub(super) face: Option<Arc<Face>>,
    name: &'static str,
    class: u64,
    copies: u64,
}

impl Export {
    /// Itself, in a value.
    pub(super) fn to_value(&self) -> Value {
        let link: Arc<Link> = Arc::clone(&self.link);
        Value::Reference(link)
    }

    fn is_class(&self) -> bool {
        self.face.as_ref().is_some_and(|face| face.is_class)
    }
}

impl Exports {
    pub(super) fn new(root: Option<Object>, most: usize) -> Self {
        let mut exports = Self {
            most,
            ..Self::default()
        };
        if let Some(root) = root {
            exports.root = exports.hand_out(&Link::Object(root));
        }
        exports
    }

    /// The number of what is shown first.
    pub(super) const fn root(&self) -> Option<u64> {
        self.root
    }

    /// Objects and containers that are held, the root included; what Python takes for a moment to call it does not count.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn get(&self, number: u64) -> Option<&Export> {
        self.held.get(&number)
    }

    /// The export of that name, which the peer has written.
    pub(super) fn find(&self, pack: PackRef<'_>) -> Option<(u64, &Export)> {
        let number = match u64::try_from(pack.instance).ok()? {
            // It is a class.
            0 => *self.by_class.get(&u64::try_from(pack.class).ok()?)?,
            number => number,
        };
        let export = self.held.get(&number)?;
        if export.is_class() != (pack.instance == 0) {
            return None;
        }
        (export.name.as_bytes() == pack.name && i128::from(export.class) == pack.class)
            .then_some((number, export))
    }

    /// Hands something out once more: its number. `None` if it cannot be, or too much is.
    pub(super) fn hand_out(&mut self, link: &Link) -> Option<u64> {
        let key = link.key()?;
        if let Some(number) = self.by_key.get(&key) {
            if let Some(export) = self.held.get_mut(number) {
                export.copies = export.copies.saturating_add(1);
            }
            return Some(*number);
        }
        if self.held.len() >= self.most {
            return None;
        }
        let face = match link {
            Link::Object(object) => Some(self.face(object)),
            _ => None,
        };
        let (name, class) = match link {
            Link::Data(data) => {
                let data = lock(data);
                (data.name(), data.class())
            }
            Link::Iteration(_) => ("builtins.generator", 4),
            _ => face
                .as_ref()
                .map_or((FUNCTION, 5), |face| (face.name, face.class)),
        };
        self.last = self.last.saturating_add(1);
        self.by_key.insert(key, self.last);
        let mut class = class;
        if face.as_ref().is_some_and(|face| face.is_class) {
            // Another class of that name has its own number, as all that Python knows a class by is that.
            if self.by_class.contains_key(&class) {
                class = OTHER_CLASSES.saturating_add(self.last);
            }
            self.by_class.insert(class, self.last);
        }
        self.held.insert(
            self.last,
            Export {
                link: Arc::new(link.clone()),
                face,
                name,
                class,
                copies: 1,
            },
        );
        Some(self.last)
    }

    /// The number of what is handed out.
    pub(super) fn number(&self, link: &Link) -> Option<u64> {
        self.by_key.get(&link.key()?).copied()
    }

    /// The number of an object, and what it looks like.
    pub(super) fn object(&self, object: &Object) -> Option<(u64, &Arc<Face>)> {
        let number = self.by_key.get(&Key::Object(object.key, object.interface))?;
        let face = self.held.get(number)?.face.as_ref()?;
        Some((*number, face))
    }

    /// The same of an object that had this number when it was last handed out.
    pub(super) fn object_of(&self, object: &Object, last: u64) -> Option<(u64, &Arc<Face>)> {
        match self.held.get(&last).map(|export| &export.face) {
            // Numbers are never given again: it has no other one.
            Some(Some(face)) => Some((last, face)),
            _ => self.object(object),
        }
    }

    /// What an object looks like.
    pub(super) fn face(&mut self, object: &Object) -> Arc<Face> {
        if let Some(description) = object.object.description() {
            return self.told_face(description, object.interface);
        }
        let operations = object.object.operations();
        let key = (object.interface, operations);
        if let Some(face) = self.faces.get(&key) {
            return Arc::clone(face);
        }
        let mut description = object.object.interface().map(Description::of).unwrap_or_default();
        description.operations = operations.names().map(str::to_owned).collect();
        let class = self.class(object.interface);
        let face = Arc::new(Face::of(&description, class, true));
        if self.faces.len() < MOST_FACES {
            self.faces.insert(key, Arc::clone(&face));
        }
        face
    }

    /// What an object looks like that tells by itself what it can do.
    fn told_face(&mut self, description: Arc<Description>, interface: u64) -> Arc<Face> {
        let at = crate::hosted::address(&description);
        if let Some((_, face)) = self.told.get(&at) {
            return Arc::clone(face);
        }
        let face = Arc::new(Face::of(&description, self.class(interface), false));
        if self.told.len() >= MOST_FACES {
            self.told.clear();
        }
        self.told.insert(at, (description, Arc::clone(&face)));
        face
    }

    /// The number of the class of objects with that interface.
    fn class(&mut self, interface: u64) -> u64 {
        let next = FIRST_CLASS.saturating_add(self.classes.len() as u64);
        *self.classes.entry(interface).or_insert(next)
    }

    /// So many copies were given back: what is not held any more, to be dropped elsewhere; an error if there is no such
    /// export.
    pub(super) fn give_back(&mut self, number: u64, copies: u64) -> Option<Arc<Link>> {
        let export = self.held.get_mut(&number)?;
        export.copies = export.copies.saturating_sub(copies);
        if export.copies > 0 || self.root == Some(number) {
            return None;
        }
        let export = self.held.remove(&number)?;
        if let Some(key) = export.link.key() {
            self.by_key.remove(&key);
        }
        if export.is_class() && self.by_class.get(&export.class) == Some(&number) {
            self.by_class.remove(&export.class);
        }
        Some(export.link)
    }

    /// All that is held, which nobody holds any more.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Arc<Link>> + use<> {
        self.by_key.clear();
        self.by_class.clear();
        self.root = None;
        std::mem::take(&mut self.held)
            .into_values()
            .map(|export| export.link)
    }

    /// Writes a box: by value what can be, else by reference. What was handed out is added to `handed`.
    ///
    /// # Errors
    ///
    /// Too much is handed out, or a reference is broken.
    pub(super) fn put_box(
        &mut self,
        value: &Value,
        imports: &Imports,
        handed: &mut Vec<u64>,
        out: &mut BytesMut,
    ) -> Result<(), Error> {
        let before = out.len();
        brine::put_tuple(2, out);
        brine::put_int(label::VALUE, out);
        if brine::put_value(value, out) {
            return Ok(());
        }
        out.truncate(before);
        match value {
            Value::Tuple(items) => {
                brine::put_tuple(2, out);
                brine::put_int(label::TUPLE, out);
                brine::put_tuple(items.len(), out);
                for item in items {
                    self.put_box(item, imports, handed, out)?;
                }
                Ok(())
            }
            Value::Reference(reference) => match Link::of(reference) {
                Some(Link::Import(proxy)) => {
                    let pack = imports.pack(proxy.id()).ok_or_else(gone)?;
                    brine::put_tuple(2, out);
                    brine::put_int(label::YOURS, out);
                    pack.put(out);
                    Ok(())
                }
                Some(Link::Broken(error)) => Err(error.clone()),
                Some(link) => self.put_mine(link, handed, out),
                None => {
                    brine::put_tuple(2, out);
                    brine::put_int(label::VALUE, out);
                    brine::put_none(out);
                    Ok(())
                }
            },
            other => {
                let shared = super::link::share(other.clone());
                if matches!(shared, Value::Reference(_) | Value::Tuple(_)) || brine::is_by_value(&shared) {
                    return self.put_box(&shared, imports, handed, out);
                }
                let text = format!("a {} cannot be sent to Python", other.kind());
                Err(Error::new(ErrorKind::Unsupported, text))
            }
        }
    }

    fn put_mine(&mut self, link: &Link, handed: &mut Vec<u64>, out: &mut BytesMut) -> Result<(), Error> {
        let number = self.hand_out(link).ok_or_else(|| {
            let text = format!(
                "the peer holds {} objects of this side, and no more are handed out",
                self.most
            );
            Error::new(ErrorKind::Limit, text)
        })?;
        handed.push(number);
        let Some(export) = self.held.get(&number) else {
            return Ok(());
        };
        brine::put_tuple(2, out);
        brine::put_int(label::MINE, out);
        let instance = if export.is_class() { 0 } else { number };
        packs::put(export.name, export.class.into(), instance.into(), out);
        Ok(())
    }

    /// What is known of each.
    pub(super) fn all(&self) -> impl Iterator<Item = Held<EngineHandles>> {
        self.held.iter().map(|(number, export)| match &*export.link {
            Link::Object(object) => {
                let held = Some(object.object.handle());
                Held::new(*number, object.interface, export.copies, held)
            }
            _ => Held::new(*number, 0, export.copies, None),
        })
    }
}

/// What is raised for a name that leads nowhere.
pub(super) fn unknown(pack: PackRef<'_>) -> Exception {
    let name = String::from_utf8_lossy(pack.name);
    let name = crate::object::cut(&name);
    Exception::new("KeyError", [format!("no such object: {name}")])
}

/// Faces that are remembered, at most.
const MOST_FACES: usize = 4096;
/// Below are the classes of what is no object.
const FIRST_CLASS: u64 = 16;
/// From here on are further classes of the same name.
const OTHER_CLASSES: u64 = 1 << 31;
