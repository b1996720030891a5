//! What an object of the peer's can do: three requests, one behind the other.

use super::*;

/// What is known so far of what an object can do.
#[derive(Debug)]
pub(in crate::rpyc) struct Describing {
    pub(super) call: u64,
    import: u64,
    of: InterfaceDescription,
    operations: Vec<String>,
    part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Methods,
    Names,
    Doc,
}

impl Rpyc {
    pub(super) fn describe(&mut self, call: u64, import: u64) -> Result<(), Error> {
        let pack = self.imports.known(import)?.clone();
        let describing = Describing {
            call,
            import,
            of: InterfaceDescription {
                name: pack.name.clone().into(),
                ..InterfaceDescription::default()
            },
            operations: ["str", "eq", "hash"].map(str::to_owned).to_vec(),
            part: Part::Methods,
        };
        let pack = tuple([
            Value::Str(pack.name.into()),
            Value::Int(pack.class),
            Value::Int(pack.instance),
        ]);
        self.send_plain(handler::INSPECT, &[pack], Pending::Describe(Box::new(describing)));
        Ok(())
    }

    pub(super) fn described(&mut self, mut describing: Describing, result: Result<Value>) {
        let (call, import) = (describing.call, describing.import);
        if !self.calls.contains_key(&call) {
            return self.discard(result.ok());
        }
        let sent = match describing.part {
            Part::Methods => {
                match result {
                    Ok(methods) => describing.take_methods(&methods),
                    Err(error) => return self.finish(call, Err(error)),
                }
                describing.part = Part::Names;
                self.send(handler::DIR, import, &[], Pending::Describe(Box::new(describing)))
            }
            Part::Names => {
                if let Ok(names) = &result {
                    describing.take_names(names);
                }
                describing.part = Part::Doc;
                let arguments = ["__doc__".into()];
                self.send(
                    handler::GETATTR,
                    import,
                    &arguments,
                    Pending::Describe(Box::new(describing)),
                )
            }
            Part::Doc => {
                if let Ok(Value::Str(doc)) = result {
                    describing.of.doc = clean(&doc);
                }
                let description = Description {
                    interfaces: vec![describing.of],
                    operations: describing.operations,
                };
                let value = to_value(&description).map_err(|error| Error::msg(error.to_string()));
                return self.finish(call, value);
            }
        };
        if let Err(error) = sent {
            self.finish(call, Err(error));
        }
    }
}

impl Describing {
    fn take_methods(&mut self, methods: &Value) {
        for method in methods.as_slice().unwrap_or_default() {
            let Some([Value::Str(name), doc]) = method.as_slice() else {
                continue;
            };
            let operation = match name.as_str() {
                "__len__" => "len",
                "__getitem__" => "index",
                "__iter__" => "iter",
                "__call__" => "call",
                "__setitem__" => "set_index",
                "__delitem__" => "delete_index",
                "__enter__" => "enter",
                _ => "",
            };
            if !operation.is_empty() {
                self.operations.push(operation.to_owned());
            }
            let name = name.strip_prefix("exposed_").unwrap_or(name);
            if !name.starts_with('_') && !self.has(name) {
                self.of.methods.push(MethodDescription {
                    name: name.to_owned(),
                    doc: doc.as_str().unwrap_or_default().to_owned(),
                    ..MethodDescription::default()
                });
            }
        }
    }

    /// What is no method is taken for a property, though only Python knows.
    fn take_names(&mut self, names: &Value) {
        for name in names.as_slice().unwrap_or_default() {
            let Some(name) = name.as_str() else { continue };
            let name = name.strip_prefix("exposed_").unwrap_or(name);
            if !name.starts_with('_') && !self.has(name) {
                self.of.methods.push(MethodDescription {
                    name: name.to_owned(),
                    property: Some(name.to_owned()),
                    reads: true,
                    ..MethodDescription::default()
                });
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.of.methods.iter().any(|method| method.name == name)
    }
}

/// A docstring without the indentation of the code around it, as `inspect.cleandoc` has it: methods come like that.
fn clean(doc: &str) -> String {
    let doc = doc.trim();
    let (first, rest) = doc.split_once('\n').unwrap_or((doc, ""));
    let indent = |line: &str| line.len().saturating_sub(line.trim_start().len());
    let written = || rest.lines().filter(|line| !line.trim().is_empty());
    let margin = written().map(indent).min().unwrap_or(0);
    let mut cleaned = first.trim_end().to_owned();
    for line in rest.lines() {
        cleaned.push('\n');
        cleaned.push_str(line.get(margin..).unwrap_or(line.trim_start()).trim_end());
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_has_no_indentation_of_the_code_around_it() {
        for (written, cleaned) in [
            ("One line.", "One line."),
            (
                "\n    What it does.\n\n    Takes:\n      one thing\n    ",
                "What it does.\n\nTakes:\n  one thing",
            ),
            ("First.\n\u{a0}second\n third", "First.\nsecond\nthird"),
            ("", ""),
        ] {
            assert_eq!(clean(written), cleaned, "{written:?}");
        }
    }
}
