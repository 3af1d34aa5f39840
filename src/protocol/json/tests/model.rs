//! Random values, and random ways of spelling one.

use std::collections::BTreeMap;

use proptest::prelude::*;

/// A value as a model: its numbers are digits without zeros at either end, and an exponent.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Word(&'static str),
    Number(bool, String, i32),
    Text(String),
    List(Vec<Tree>),
    Members(BTreeMap<String, Tree>),
}

pub(super) fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        prop_oneof![Just("null"), Just("true"), Just("false")].prop_map(Tree::Word),
        Just(Tree::Number(false, String::new(), 0)),
        (any::<bool>(), "[1-9]([0-9]{0,20}[1-9])?", -30..30_i32)
            .prop_map(|(negative, digits, exponent)| { Tree::Number(negative, digits, exponent) }),
        "[a\"\\\\\n\u{e9}\u{1f980}/]{0,3}".prop_map(Tree::Text),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Tree::List),
            prop::collection::btree_map("[ab\"\u{e9}]{0,2}", inner, 0..5).prop_map(Tree::Members),
        ]
    })
}

/// Spells a tree in one of its many ways; `choices` is used up over and over.
pub(super) struct Speller<'a> {
    choices: std::iter::Cycle<std::slice::Iter<'a, u8>>,
    out: String,
}

impl Speller<'_> {
    pub(super) fn spell(tree: &Tree, choices: &[u8]) -> String {
        let mut speller = Speller { choices: choices.iter().cycle(), out: String::new() };
        speller.write(tree);
        speller.out
    }

    fn choice(&mut self, of: u8) -> u8 {
        self.choices.next().unwrap() % of
    }

    fn space(&mut self) {
        let space = ["", "", " ", "\n\t", "\r"][usize::from(self.choice(5))];
        self.out += space;
    }

    fn write(&mut self, tree: &Tree) {
        self.space();
        match tree {
            Tree::Word(word) => self.out += word,
            Tree::Text(text) => self.text(text),
            Tree::Number(negative, digits, exponent) => self.number(*negative, digits, *exponent),
            Tree::List(list) => {
                self.out.push('[');
                for (at, item) in list.iter().enumerate() {
                    self.out += if at > 0 { "," } else { "" };
                    self.write(item);
                }
                self.space();
                self.out.push(']');
            }
            Tree::Members(members) => {
                let mut members: Vec<_> = members.iter().collect();
                for at in (1..members.len()).rev() {
                    let other = usize::from(self.choice(at as u8 + 1));
                    members.swap(at, other);
                }
                self.out.push('{');
                for (at, (name, value)) in members.into_iter().enumerate() {
                    self.out += if at > 0 { "," } else { "" };
                    self.space();
                    self.text(name);
                    self.space();
                    self.out.push(':');
                    self.write(value);
                }
                self.space();
                self.out.push('}');
            }
        }
        self.space();
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            if self.choice(3) == 0 {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    self.out += &format!("\\u{unit:04X}");
                }
            } else {
                let quoted = serde_json::to_string(&character).unwrap();
                self.out += &quoted[1..quoted.len() - 1];
            }
        }
        self.out.push('"');
    }

    fn number(&mut self, negative: bool, digits: &str, exponent: i32) {
        if negative {
            self.out.push('-');
        }
        if digits.is_empty() {
            let zero = ["0", "0.0", "0e7", "0.00E-5"][usize::from(self.choice(4))];
            self.out += zero;
            return;
        }
        // Zeros behind, and a point anywhere.
        let zeros = usize::from(self.choice(4));
        let digits = format!("{digits}{}", "0".repeat(zeros));
        let point = usize::from(self.choice(digits.len() as u8 + 1));
        let (whole, fraction) = digits.split_at(point);
        let exponent = exponent - zeros as i32 + fraction.len() as i32;
        let more = "0".repeat(usize::from(self.choice(3)));
        self.out += if whole.is_empty() { "0" } else { whole };
        if !fraction.is_empty() || self.choice(2) == 0 {
            self.out += &format!(".{fraction}{more}0");
        }
        if exponent != 0 || self.choice(2) == 0 {
            let sign = if exponent >= 0 && self.choice(2) == 0 { "+" } else { "" };
            let letter = ["e", "E"][usize::from(self.choice(2))];
            self.out += &format!("{letter}{sign}{exponent}");
        }
    }
}
