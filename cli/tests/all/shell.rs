//! The shell, fed by a pipe and typed on a terminal.

use crate::kit::World;

fn said(lines: &str) -> String {
    World::new().feed(&["shell", "@"], lines).ok().to_owned()
}

#[test]
fn lines_of_a_pipe_are_run_one_after_the_other() {
    assert_eq!(said("title\n"), "\"rig\"\n");
    assert_eq!(said("voltage(3)\nvoltage(3, gain = 2)\n"), "3.0\n6.0\n");
    assert_eq!(
        said("x = part(\"lamp\")\nx.title\nx.title = \"sun\"\nx.title\n"),
        "\"lamp\"\n\"sun\"\n"
    );
    assert_eq!(said("voltage(2)\nvoltage(4, gain = _)\n"), "2.0\n8.0\n");
    assert_eq!(said("echo([1, {a: title}])[1].a\n"), "\"rig\"\n");
    assert_eq!(said("table()\n"), "NAME    VOLTS\nfirst     1.5\nsecond  12.25\n");
    assert_eq!(said("table()[-1].volts\n"), "12.25\n");
    assert_eq!(said("root.part(\"a\").title\n"), "\"a\"\n");
    assert_eq!(said("count(3)\nlast = _\nlast[2]\n"), "[0, 1, 2]\n2\n");
    assert_eq!(said("iter count(3)\n"), "0\n1\n2\n");
    assert_eq!(said("text()\n"), "first\nsecond\n");
    assert_eq!(said("root\npart(\"a\")\n"), "<test.Bench>\n<test.Bench>\n");
    assert_eq!(said("title\nquit\ntitle\n"), "\"rig\"\n");
    assert_eq!(
        said("# nothing\n\nx = 1\nx\ndel x\nvars\n"),
        "1\n_ = 1\nroot = <test.Bench>\n"
    );
}

#[test]
fn what_there_is_can_be_asked() {
    let dir = said("dir\n");
    assert!(
        dir.contains("voltage(channel, gain)  Measures a channel, in volts.\n"),
        "{dir}"
    );
    assert!(
        dir.contains("title                   What to call it.\n"),
        "{dir}"
    );
    let doc = "fn voltage(channel: u8, gain: Option<f64>) -> Result<f64>\nMeasures a channel, in volts.\n";
    assert_eq!(said("doc voltage\n"), doc);
    assert_eq!(said("root.voltage?\n"), doc);
    assert_eq!(said("voltage\n"), doc);
    assert!(said("doc\n").contains("trait test.Bench {"));
}

#[test]
fn the_first_line_that_fails_ends_a_pipe_with_its_number() {
    let world = World::new();
    let ran = world.feed(&["shell", "@"], "voltage(1)\nvoltag(3)\nvoltage(2)\n");
    assert_eq!((ran.code, ran.out.as_str()), (1, "1.0\n"), "{ran:?}");
    assert!(
        ran.err
            .starts_with("farref: line 2: test.Bench has no method `voltag`"),
        "{ran:?}"
    );
    assert_eq!(world.feed(&["shell", "@"], "voltage(\n").code, 2);
    assert_eq!(world.feed(&["shell", "@"], "fail(true)\n").code, 4);
    let ran = world.run(&["shell", "@", "-c", "voltage(1)", "-c", "table()", "--json"]);
    assert_eq!(
        ran.ok(),
        "1.0\n[{\"name\":\"first\",\"volts\":1.5},{\"name\":\"second\",\"volts\":12.25}]\n"
    );
}
