//! What is read of bash, and what is refused.

use proptest::prelude::*;

use super::super::bash::{Value, parse};

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn array(values: &[&str]) -> Value {
    Value::Array(values.iter().map(|value| (*value).to_owned()).collect())
}

#[test]
fn assignments_have_the_values_that_bash_gives_them() {
    let script = r#"
# A comment
a=plain b='single $x `y`' ; c="double \"quoted\" \$x \n" # another
export d=exported
declare -a e=( one "two words" 'three' four\ words "" )   # five
f=(
    first    # a comment in it
    second \
    third
)
f+=( fourth )
g=tank/vm
g+=/deep
h=$g/x
i="${g}y"
j=( $g/1 "${f[@]}" ${e[@]} )
k=()
l=( "${k[@]}" x"$g"y )
m=a#b
n=$POOL/vm
o=one\
line
typeset -ax p=( [2001:db8::1]:3260 )
q=
declare -a r
s=x\'y"'"z
"#;
    let found = parse(script, &[("POOL", "tank")]).unwrap_or_else(|error| panic!("{error:?}"));
    let value = |name: &str| {
        found
            .get(name)
            .unwrap_or_else(|| panic!("{name}"))
            .value
            .clone()
    };
    assert_eq!(value("a"), text("plain"));
    assert_eq!(value("b"), text("single $x `y`"));
    assert_eq!(value("c"), text("double \"quoted\" $x \\n"));
    assert_eq!(value("d"), text("exported"));
    assert_eq!(
        value("e"),
        array(&["one", "two words", "three", "four words", ""])
    );
    assert_eq!(value("f"), array(&["first", "second", "third", "fourth"]));
    assert_eq!(value("g"), text("tank/vm/deep"));
    assert_eq!(value("h"), text("tank/vm/deep/x"));
    assert_eq!(value("i"), text("tank/vm/deepy"));
    assert_eq!(
        value("j"),
        array(&[
            "tank/vm/deep/1",
            "first",
            "second",
            "third",
            "fourth",
            "one",
            "two",
            "words",
            "three",
            "four",
            "words"
        ])
    );
    assert_eq!(value("k"), array(&[]));
    assert_eq!(value("l"), array(&["xtank/vm/deepy"]));
    assert_eq!(value("m"), text("a#b"));
    assert_eq!(value("n"), text("tank/vm"));
    assert_eq!(value("o"), text("oneline"));
    assert_eq!(value("p"), array(&["[2001:db8::1]:3260"]));
    assert_eq!(value("q"), text(""));
    assert_eq!(value("r"), array(&[]));
    assert_eq!(value("s"), text("x'y'z"));
    assert_eq!(found.unused(), None);
}

#[test]
fn what_would_have_to_be_executed_is_refused_with_its_line() {
    for (wrong, reason) in [
        ("a=$(hostname)", "without the name of a variable"),
        ("a=\"$(hostname)\"", "without the name of a variable"),
        ("a=`hostname`", "backquotes"),
        ("a=\"`hostname`\"", "backquotes"),
        ("a=$((1+1))", "without the name of a variable"),
        ("a=$'x'", "without the name of a variable"),
        ("a=$1", "without the name of a variable"),
        (
            "if true; then a=1; fi",
            "\"if true; then a=1; fi\" is no assignment",
        ),
        ("for x in a b; do :; done", "is no assignment"),
        ("f() { :; }", "is no assignment"),
        ("function f { :; }", "is no assignment"),
        ("source /etc/other", "is no assignment"),
        (". /etc/other", "is no assignment"),
        ("vmpool01_tpg = vmpool01_tpg", "is no assignment"),
        ("a=1 rm -rf x", "is no assignment"),
        ("a-b=1", "is no assignment"),
        ("a[0]=1", "is no assignment"),
        ("(a=1)", "is no assignment"),
        ("a=1 && b=2", "is no assignment"),
        ("a=1&", "without quotes"),
        ("a=x|y", "without quotes"),
        ("a=<(x)", "without quotes"),
        ("a=( <(x) )", "without quotes"),
        ("a=~/x", "home directory"),
        ("a=( * )", "a pattern"),
        ("a=( tpg{1,2} )", "a pattern"),
        ("a=( [0]=x )", "an index"),
        ("a=( b c", "has no end"),
        ("a=( b; c )", "there is a ';'"),
        ("a='b", "has no end"),
        ("a=\"b", "has no end"),
        ("a=(b)c", "there is a 'c' behind a value"),
        ("a=( b(c) )", "without quotes"),
        ("a=$b", "$b is not assigned before"),
        ("a=( 1 2 ); b=$a", "first element of an array"),
        ("a=( 1 2 ); a+=3", "is an array"),
        ("a=x; b=${a:-y}", "is not understood"),
        ("a=x; b=${a", "without a \"}\""),
        ("a=( 1 ); b=\"${a[@]}\"", "is not understood"),
        ("declare -A a=( x )", "no other option"),
        ("export -f f", "no other option"),
        ("a=1;;", "\";;\""),
        ("a=1\r", "carriage return"),
        ("readonly a=1", "is no assignment"),
        ("declare -r a=1", "no other option"),
        ("declare -a a=1", "is an array"),
        ("a=1; declare -a a", "is no array"),
        ("a=( 1 ); a=2", "is an array"),
        ("unset a", "is no assignment"),
    ] {
        let error = parse(&format!("ok=1\n\n{wrong}\nlast=1\n"), &[]).unwrap_err();
        assert!(error.reason.contains(reason), "{wrong}: {error:?}");
        assert_eq!(error.line, 3, "{wrong}: {error:?}");
        assert!(!error.reason.contains('\n'), "{wrong}: {error:?}");
    }
}

#[test]
fn a_variable_that_nobody_asked_for_is_told() {
    let found = parse("a=1\nb=$a\nc=1\n", &[]).unwrap();
    assert_eq!(found.unused(), Some(("b", 2)));
    found.get("b");
    assert_eq!(found.unused(), Some(("c", 3)));
}

/// Text that is more often than not near to bash.
fn scripts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("a=".to_owned()),
        Just("b+=".to_owned()),
        Just("( ".to_owned()),
        Just(" )".to_owned()),
        Just("\n".to_owned()),
        Just("$a".to_owned()),
        Just("${b[@]}".to_owned()),
        Just("\"".to_owned()),
        Just("'".to_owned()),
        Just("\\".to_owned()),
        Just("declare -a ".to_owned()),
        Just("#".to_owned()),
        ".{0,3}",
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(script in scripts()) {
        if let Err(error) = parse(&script, &[("POOL", "tank")]) {
            prop_assert!(error.line <= script.matches('\n').count() + 1);
        }
    }

    #[test]
    fn values_in_quotes_are_kept(values in proptest::collection::vec("[ -~\n]{0,12}", 0..6)) {
        let quoted: Vec<String> = values
            .iter()
            .map(|value| format!("'{}'", value.replace('\'', "'\\''")))
            .collect();
        let found = parse(&format!("x=( {} )", quoted.join("\n")), &[]).unwrap();
        let expected = Value::Array(values);
        prop_assert_eq!(&found.get("x").unwrap().value, &expected);
    }
}
