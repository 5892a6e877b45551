//! Stories of two nodes and a pool, told as the collector's and the machine room's logs tell them.

use lab_guest::sight;

use super::super::turns::turns;
use super::*;

/// Both nodes are connected, at 10.
const HELLO: &str = "10 1 hello n1 boot=a\n10 2 hello n2 boot=b\n";

fn story(told: &str, room: &str, until: f64) -> Story {
    let names = ["n1".to_owned(), "n2".to_owned()];
    let heard = sight::heard(&format!("{HELLO}{told}\n")).unwrap();
    Story::new(&names, &heard, &turns(room), until)
}

fn check(story: &Story) -> Result<()> {
    story.check(&["tank".to_owned()])
}

fn fails(story: &Story, expected: &str) {
    let error = check(story).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

/// Node, begin and end of each stay.
fn stays(story: &Story) -> Vec<(&str, f64, f64)> {
    let all = story.stays.iter();
    all.map(|stay| (stay.node.as_str(), stay.begin, stay.end))
        .collect()
}

/// From n1 to n2, in words that come 0.2 s after the looks.
const MOVED: &str = "\
11.2 1 sight 0 11.0 10.9 0.1 tank
11.2 2 sight 0 11.0 10.9 0.1
12.2 1 sight 0 12.0 11.9 0.1 tank
12.7 1 sight 0 12.5 12.4 0.1
13.2 2 sight 0 13.0 12.9 0.1 tank
14.0 1 sight 0 13.8 13.7 0.1
14.2 2 sight 0 14.0 13.9 0.1 tank";

#[test]
fn a_stay_lasts_from_the_first_word_to_the_last_look() {
    let story = story(MOVED, "", 15.0);
    assert_eq!(stays(&story), [("n1", 11.2, 12.4), ("n2", 13.2, 14.0)]);
    assert_eq!(story.holders("tank"), ["n2"]);
    assert!((story.blur() - 0.6).abs() < 1e-6, "{}", story.blur());
    check(&story).unwrap();
}

#[test]
fn two_nodes_at_once_are_named() {
    let told = MOVED.replace(
        "12.7 1 sight 0 12.5 12.4 0.1",
        "12.7 1 sight 0 12.5 12.4 0.1 tank",
    );
    let told = told.replace("14.0 1 sight 0 13.8 13.7", "14.0 1 sight 0 13.9 13.8");
    fails(
        &story(&told, "", 15.0),
        "tank was on n1 from 11.200 until 13.800, and on n2 from 13.200 until 14.000",
    );
    // Two things on two nodes are none of their business.
    let other = |line: &str| match line.contains(" 2 sight") {
        true => line.replace("tank", "192.0.2.10"),
        false => line.to_owned(),
    };
    let other: Vec<String> = told.lines().map(other).collect();
    check(&story(&other.join("\n"), "", 15.0)).unwrap();
}

#[test]
fn a_stay_of_one_look_is_seen_within_that_of_another() {
    let told = "\
11.2 1 sight 0 11.1 11.0 0.1 tank
12.1 2 sight 0 12.0 11.9 0.1 tank
12.2 2 sight 0 12.1 12.0 0.1
12.3 1 sight 0 12.2 12.1 0.1 tank";
    fails(&story(told, "", 13.0), "on n2 from 12.100 until 12.000");
}

#[test]
fn words_that_are_late_are_no_overlap() {
    // n1 has let go at 12.05, and that is known at 13.5, after n2 has it.
    let told = "\
11.0 1 sight 0 11.0 10.9 0.1 tank
12.5 2 sight 0 12.4 12.3 0.1 tank
13.5 1 sight 0 12.1 12.0 0.1
13.5 2 sight 0 13.4 13.3 0.1 tank";
    let story = story(told, "", 14.0);
    check(&story).unwrap();
    assert!(story.blur() > 1.4, "{}", story.blur());
}

#[test]
fn what_a_node_had_ends_with_its_power() {
    let told = "\
11.0 1 sight 0 11.0 10.9 0.1 tank
11.0 2 sight 0 11.0 10.9 0.1
13.1 2 sight 0 13.0 12.9 0.1 tank";
    let room = "12.000 n1 power off for lab\n12.500 n1 power off for bmc: was off\n";
    let lost = story(told, room, 14.0);
    assert_eq!(
        stays(&lost),
        [("n1", 11.0, 12.0 - GRACE), ("n2", 13.1, 13.0)]
    );
    assert!(lost.blur() >= GRACE);
    check(&lost).unwrap();
    // Taken from it while it had its power.
    let early = told.replace("13.1 2 sight 0 13.0 12.9", "11.3 2 sight 0 11.2 11.1");
    fails(&story(&early, room, 14.0), "on n1 from 11.000 until 11.500");
    // A word that was under way when its power was cut, and comes from a node that is no more.
    let late =
        format!("{told}\n12.01 1 sight 0 12.0 11.9 0.1 tank\n12.6 1 sight 0 12.0 11.9 0.1 tank");
    let late = story(&late, room, 14.0);
    assert_eq!(stays(&late), stays(&lost));
    assert_eq!(late.holders("tank"), ["n2"]);
}

#[test]
fn of_a_node_that_was_silent_for_long_nothing_is_known_but_what_was_seen() {
    let told = "\
11.0 1 sight 0 11.0 10.9 0.1 tank
13.1 2 sight 0 13.0 12.9 0.1 tank";
    let story = story(told, "20.000 n1 power off for lab\n", 21.0);
    assert_eq!(stays(&story)[0], ("n1", 11.0, 11.0));
    assert!(story.blur() >= 9.0);
    check(&story).unwrap();
}

#[test]
fn a_reset_ends_what_a_node_had_and_a_frozen_one_keeps_it_until_its_power_is_cut() {
    let told = "\
11.0 1 sight 0 11.0 10.9 0.1 tank
31.0 2 sight 0 30.9 30.8 0.1 tank
32.0 2 sight 0 31.9 31.8 0.1 tank";
    let reset = story(told, "12.000 n1 reset for bmc\n", 33.0);
    assert_eq!(stays(&reset)[0], ("n1", 11.0, 11.5));
    let fenced = story(
        told,
        "11.500 n1 frozen\n30.000 n1 power off for bmc\n30.100 n1 power on\n",
        33.0,
    );
    assert_eq!(stays(&fenced)[0], ("n1", 11.0, 30.0));
    assert!(fenced.blur() < 0.5, "{}", fenced.blur());
    check(&fenced).unwrap();
    assert_eq!(fenced.holders("tank"), ["n2"]);
    // Fenced too late, or not at all.
    fails(
        &story(
            told,
            "11.500 n1 frozen\n31.500 n1 power off for bmc\n",
            33.0,
        ),
        "until 31.500",
    );
    let frozen = story(told, "11.500 n1 frozen\n", 33.0);
    fails(&frozen, "on n1 from 11.000 until 33.000");
    assert_eq!(frozen.holders("tank"), ["n1", "n2"]);
}

#[test]
fn one_that_goes_on_has_kept_what_it_had() {
    let thawed = "11.500 n1 frozen\n20.000 n1 thawed\n";
    let told = "\
11.0 1 sight 0 11.0 10.9 0.1 tank
15.0 2 sight 0 14.9 14.8 0.1 tank
16.0 2 sight 0 15.9 15.8 0.1
20.2 1 sight 0 12.0 11.4 8.7";
    fails(&story(told, thawed, 21.0), "on n1 from 11.000 until 20.000");
    let alone = told.replace(" tank\n16.0", "\n16.0");
    let alone = story(&alone, thawed, 21.0);
    check(&alone).unwrap();
    // It could not look, and that is nothing that could be missed.
    assert!(alone.blur() < 0.5, "{}", alone.blur());
}

#[test]
fn a_line_that_broke_is_a_time_of_which_nothing_is_known() {
    let told = "\
11.0 1 sight 0 11.0 10.9 0.1 tank
11.0 2 sight 0 11.0 10.9 0.1
12.0 3 hello n1 boot=a
13.0 3 sight 0 13.0 13.0 0.0 tank
13.1 1 sight 0 11.0 10.9 0.1
14.0 3 sight 0 14.0 13.9 0.1 tank";
    let story = story(told, "", 15.0);
    assert_eq!(stays(&story), [("n1", 11.0, 11.0), ("n1", 13.0, 14.0)]);
    assert!((story.blur() - 2.1).abs() < 1e-6, "{}", story.blur());
    check(&story).unwrap();
}

#[test]
fn clocks_of_guests_do_not_matter() {
    // n1 boots by itself, its clock is an hour off; meanwhile n2 has had the pool and given it away.
    let told = "\
11.0 1 sight 3611.0 11.0 10.9 0.1 tank
20.0 2 sight 20.0 20.0 19.9 0.1 tank
30.0 2 sight 30.0 30.0 29.9 0.1
50.0 3 hello n1 boot=c
50.1 3 sight 7.0 50.0 50.0 0.0
60.0 3 sight 17.0 59.9 59.8 0.1 tank
61.0 3 sight 18.0 60.9 60.8 0.1 tank";
    let story = story(told, "", 62.0);
    let expected = [("n1", 11.0, 11.0), ("n2", 20.0, 29.9), ("n1", 60.0, 60.9)];
    assert_eq!(stays(&story), expected);
    check(&story).unwrap();
}

#[test]
fn who_can_speak_has_to() {
    let told = "11.0 1 sight 0 11.0 10.9 0.1 tank";
    fails(&story(told, "", 12.0), "n2 was never heard");
    let both = format!("{told}\n11.0 2 sight 0 11.0 10.9 0.1");
    check(&story(&both, "", 12.0)).unwrap();
    let late = 11.0 + SILENCE.as_secs_f64();
    fails(
        &story(&both, "", late),
        "n1 has power and does not stand still, and was silent for the last 60 s",
    );
    let alive = format!("{both}\n70 2 sight 0 70 69.9 0.1");
    assert_eq!(story(&alive, "", late).silent_since(60.0), ["n1"]);
    let excuses = [
        "11.500 n1 frozen\n",
        "11.500 n1 power off for lab\n",
        "11.500 n1 has switched itself off\n",
        "11.500 n1 power off for lab\n12.000 n1 power on\n",
        "11.500 n1 reset for lab\n",
    ];
    for room in excuses {
        let story = story(&alive, room, late);
        assert!(story.silent_since(60.0).is_empty(), "{room}");
        check(&story).unwrap();
    }
    // A boot does not take for ever.
    let end = 12.0 + RECOVER.as_secs_f64();
    let alive = format!("{alive}\n{end} 2 sight 0 {end} {end} 0.1");
    fails(&story(&alive, excuses[3], end), "n1 has power");
    // And what has spoken after it is one like any other.
    let spoken = format!("{both}\n40 3 hello n1 boot=c\n40 3 sight 0 40 40 0");
    let story = story(&spoken, excuses[3], 41.0);
    assert_eq!(story.silent_since(40.5), ["n1", "n2"]);
}

#[test]
fn a_watch_that_sees_nothing_is_blind() {
    let told = "11.0 1 sight 0 11.0 10.9 0.1\n11.0 2 sight 0 11.0 10.9 0.1 192.0.2.10";
    fails(&story(told, "", 12.0), "tank was never seen on any node");
}
