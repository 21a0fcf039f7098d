//! User names as clients give them: `user`, or `user.project`.

/// PostgreSQL's NAMEDATALEN less its terminator: longer names are cut there, and so cannot be told apart.
pub const NAME_BYTES_MAX: usize = 63;

/// Splits at the *last* dot: users may have dots in their names, projects may not. `None` where either side is empty.
pub fn split_project(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('.').filter(|(user, project)| !user.is_empty() && !project.is_empty())
}

/// Whether a user, a database or a project may be called this: 1 to 63 bytes, none of them a control character.
pub fn is_valid_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_dot_divides() {
        for (name, parts) in [
            ("postgres.abcdef", Some(("postgres", "abcdef"))),
            ("first.last.abcdef", Some(("first.last", "abcdef"))),
            ("postgres", None),
            ("postgres.", None),
            (".abcdef", None),
            (".", None),
            ("", None),
            ("a..b", Some(("a.", "b"))),
        ] {
            assert_eq!(split_project(name), parts, "{name:?}");
        }
    }

    #[test]
    fn cve_2012_4575_names_have_a_length() {
        for (name, valid) in [
            (String::new(), false),
            ("a".repeat(63), true),
            ("a".repeat(64), false),
            ("größe ♥".into(), true),
            ("a\tb".into(), false),
            ("a\u{7f}".into(), false),
            ("a\u{85}".into(), false),
        ] {
            assert_eq!(is_valid_name(&name), valid, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_split_can_be_joined(name: String) {
            if let Some((user, project)) = split_project(&name) {
                prop_assert_eq!(format!("{user}.{project}"), name.as_str());
                prop_assert!(!project.contains('.'));
            }
        }
    }
}
