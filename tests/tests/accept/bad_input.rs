//! Bad input: a clear error that names the place and the way out, and nothing half done.

use std::fmt::Write;

use evener_tests::town::{PATIENCE, Town, pause};

use super::EVENER;

fn event(nth: usize) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"e{nth}","source":"test","type":"t.v1","subject":"s{}","data":{{"n":{nth}}}}}"#,
        nth % 7
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_line_says_which_and_what_was_stored_before_it() {
    let mut town = Town::new(EVENER);
    town.build("n1", &[]).await;
    let file = town.folder().join("events.ndjson");
    let broken = "{\"id\": \"e4000\", oops";
    let mut text = String::new();
    for nth in 1..=5_000 {
        let line = if nth == 4_000 { broken.into() } else { event(nth) };
        writeln!(text, "{line}").unwrap();
    }
    std::fs::write(&file, &text).unwrap();
    let path = file.display().to_string();
    let (_, told) = town.fails(&["import", &path]).await;
    assert!(told.contains("line 4000 of") && told.contains(&path), "{told}");
    assert!(told.contains("3,999 events are stored: 3,999 by this run"), "{told}");
    assert_eq!(town.cluster().await.head, 3_999, "what stands before it is stored");
    assert!(told.contains("at column 17") && !told.contains("line 1 column"), "only the file's line is named: {told}");
    std::fs::write(&file, text.replace(broken, &event(4_000))).unwrap();
    let told = town.tell(&["import", &path]).await;
    assert!(told.contains("5,000 events are stored: 1,001 by this run"), "{told}");
    assert_eq!(town.cluster().await.head, 5_000, "nothing is stored twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_in_another_form_is_told_how_to_become_lines() {
    let mut town = Town::new(EVENER);
    town.build("n1", &[]).await;
    for (name, text, convert) in [
        ("array.json", format!("[\n  {},\n  {}\n]\n", event(1), event(2)), "jq -c '.[]'"),
        ("line.json", format!("[{},{}]", event(1), event(2)), "jq -c '.[]'"),
        ("pretty.json", event(1).replace(',', ",\n  "), "jq -c ."),
    ] {
        let file = town.folder().join(name).display().to_string();
        std::fs::write(&file, text).unwrap();
        let (_, told) = town.fails(&["import", &file]).await;
        assert!(told.contains("line 1 of") && told.contains(&format!("{convert} {file} | evener import -")), "{told}");
    }
    assert_eq!(town.cluster().await.head, 0, "nothing is half done");
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_wrong_appends_are_refused_by_name() {
    let mut town = Town::new(EVENER);
    town.build("n1", &[]).await;
    town.tell(&["append", "a", "--type", "t.v1", "--data", "1"]).await;
    let large = "x".repeat(1_100_000);
    let file = town.folder().join("large.ndjson");
    let line = format!(r#"{{"specversion":"1.0","id":"b","source":"t","type":"t.v1","data":"{large}"}}"#);
    std::fs::write(&file, event(1) + "\n" + &line + "\n").unwrap();
    let (_, told) = town.fails(&["import", &file.display().to_string()]).await;
    assert!(told.contains("event_bytes_max") && told.contains("line 2 of"), "{told}");
    let data = town.folder().join("large.json");
    std::fs::write(&data, format!("\"{large}\"")).unwrap();
    let (_, told) = town.fails(&["append", "a", "--type", "t.v1", "--data-file", &data.display().to_string()]).await;
    assert!(told.contains("event_bytes_max"), "{told}");
    let (_, told) = town.fails(&["append", "a", "--type", "t.v1", "--data", "2", "--expect", "7"]).await;
    for word in ["EV", "'a'", "7", "0"] {
        assert!(told.contains(word), "it should name {word}: {told}");
    }
    assert_eq!(town.cluster().await.head, 2, "nothing is half done");
}

/// Waits until the status of the cluster says this, and answers all that it says.
async fn status_says(town: &Town, words: &str) -> String {
    let looking = async {
        loop {
            let shown = town.tell(&["cluster", "status"]).await;
            if shown.contains(words) {
                return shown;
            }
            pause().await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("it never says: {words}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_a_minority_cannot_write() {
    let mut town = Town::of_three(EVENER, &[]).await;
    town.tell(&["append", "a", "--type", "t.v1", "--data", "1"]).await;
    // Who joins learns first, and votes as soon as there are two such: until then the first is the majority.
    let votes = |role: &str| role == "leader" || role == "follower";
    while !town.cluster().await.members.iter().all(|member| votes(&member.role)) {
        pause().await;
    }
    town.kill("n2").await;
    status_says(&town, "the cluster stops if another of them is lost").await;
    town.kill("n3").await;
    let shown = status_says(&town, "1 of 3 voters answer").await;
    assert_eq!(shown.matches(" gone ").count(), 2, "who does not answer is not alive: {shown}");
    let (_, told) = town.fails(&["append", "a", "--type", "t.v1", "--data", "2", "--id", "two"]).await;
    assert!(["majority", "leader", "quorum"].iter().any(|word| told.contains(word)), "{told}");
    town.start("n2").await;
    let told = town.tell(&["append", "a", "--type", "t.v1", "--data", "2", "--id", "two"]).await;
    assert!(told.contains("at position 1"), "stored once, whatever came of the first: {told}");
}
