//! Arithmetic expressions: parsing, printing, exact values.

use std::fmt;

use crate::rational::Rational;

/// The four operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// Sum.
    Add,
    /// Difference.
    Subtract,
    /// Product.
    Multiply,
    /// Quotient.
    Divide,
}

impl Operator {
    /// Every operation.
    pub const ALL: [Self; 4] = [Self::Add, Self::Subtract, Self::Multiply, Self::Divide];

    /// The operation written so.
    #[must_use]
    pub fn from_symbol(symbol: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operator| operator.symbol() == symbol)
    }

    /// Its symbol.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
        }
    }

    /// Its name as a verb.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Subtract => "subtract",
            Self::Multiply => "multiply",
            Self::Divide => "divide",
        }
    }

    /// Whether the order of the operands does not matter.
    #[must_use]
    pub fn is_commutative(self) -> bool {
        matches!(self, Self::Add | Self::Multiply)
    }

    /// Whether it is a sum or a difference.
    pub(crate) fn is_sum(self) -> bool {
        matches!(self, Self::Add | Self::Subtract)
    }

    fn precedence(self) -> u8 {
        if self.is_sum() { 1 } else { 2 }
    }
}

/// An expression tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// A number, as it was written.
    Number(String),
    /// An operation on two expressions.
    Operation(Operator, Box<Expression>, Box<Expression>),
}

impl Expression {
    /// An operation.
    #[must_use]
    pub fn operation(operator: Operator, left: Self, right: Self) -> Self {
        Self::Operation(operator, Box::new(left), Box::new(right))
    }

    /// Reads an infix expression such as `( 16 + 14 ) / 5`; none if the text is anything else, or longer than any real
    /// answer.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let tokens = tokenize(text)?;
        let mut parser = Parser { tokens: &tokens, next: 0, depth: 0 };
        let expression = parser.expression(1)?;
        (parser.next == tokens.len()).then_some(expression)
    }

    /// Reads a prefix expression such as `/ + number0 number1 5.0`, with `numberN` standing for `numbers[N]`; none if
    /// the text is anything else, or longer than any real solution.
    #[must_use]
    pub fn parse_prefix(text: &str, numbers: &[String]) -> Option<Self> {
        if text.split_whitespace().nth(MAX_TOKENS).is_some() {
            return None;
        }
        let mut tokens = text.split_whitespace();
        let expression = Self::prefix(&mut tokens, numbers)?;
        tokens.next().is_none().then_some(expression)
    }

    fn prefix<'a>(tokens: &mut impl Iterator<Item = &'a str>, numbers: &[String]) -> Option<Self> {
        let token = tokens.next()?;
        if let Some(operator) = Operator::from_symbol(token) {
            let left = Self::prefix(tokens, numbers)?;
            return Some(Self::operation(operator, left, Self::prefix(tokens, numbers)?));
        }
        if let Some(index) = token.strip_prefix("number") {
            return numbers.get(index.parse::<usize>().ok()?).cloned().map(Self::Number);
        }
        Rational::parse(token).map(|value| Self::Number(value.to_string()))
    }

    /// The exact value; none on division by zero or overflow.
    #[must_use]
    pub fn value(&self) -> Option<Rational> {
        match self {
            Self::Number(text) => Rational::parse(text),
            Self::Operation(operator, left, right) => {
                let (left, right) = (left.value()?, right.value()?);
                match operator {
                    Operator::Add => left.plus(right),
                    Operator::Subtract => left.minus(right),
                    Operator::Multiply => left.times(right),
                    Operator::Divide => left.over(right),
                }
            }
        }
    }

    /// Its operations, innermost and leftmost first: the steps of the calculation.
    #[must_use]
    pub fn steps(&self) -> Vec<&Self> {
        let mut steps = Vec::new();
        self.collect_steps(&mut steps);
        steps
    }

    fn collect_steps<'a>(&'a self, steps: &mut Vec<&'a Self>) {
        if let Self::Operation(_, left, right) = self {
            left.collect_steps(steps);
            right.collect_steps(steps);
            steps.push(self);
        }
    }

    /// Whether both are the same calculation: operands of sums and products in any order, numbers by value.
    #[must_use]
    pub fn same_calculation(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => Rational::parse(a) == Rational::parse(b),
            (Self::Operation(operator, a, b), Self::Operation(other, c, d)) => {
                operator == other
                    && ((a.same_calculation(c) && b.same_calculation(d))
                        || (operator.is_commutative() && a.same_calculation(d) && b.same_calculation(c)))
            }
            _ => false,
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, parent: u8) -> fmt::Result {
        match self {
            Self::Number(text) => f.write_str(text),
            Self::Operation(operator, left, right) => {
                let precedence = operator.precedence();
                let bracket = precedence < parent;
                if bracket {
                    f.write_str("( ")?;
                }
                left.write(f, precedence)?;
                write!(f, " {} ", operator.symbol())?;
                // The right operand of equal precedence always takes brackets: a - ( b - c ), a + ( b + c ).
                right.write(f, precedence + 1)?;
                if bracket {
                    f.write_str(" )")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

fn tokenize(text: &str) -> Option<Vec<String>> {
    let mut tokens: Vec<String> = Vec::new();
    let mut in_number = false;
    for character in text.chars() {
        let numeric = character.is_ascii_digit() || character == '.' || character == ',';
        match (numeric, in_number, tokens.last_mut()) {
            (true, true, Some(number)) => number.push(character),
            (true, ..) => tokens.push(character.to_string()),
            (false, ..) if "+-*/()".contains(character) => tokens.push(character.to_string()),
            (false, ..) if character.is_whitespace() => {}
            _ => return None,
        }
        if tokens.len() > MAX_TOKENS {
            return None;
        }
        in_number = numeric;
    }
    Some(tokens)
}

/// Length that no real answer has: a tree is as deep as its text is long, and what walks it recurses.
const MAX_TOKENS: usize = 256;

/// Nesting that no real answer has; keeps hostile text from exhausting the stack.
const MAX_DEPTH: usize = 64;

struct Parser<'a> {
    tokens: &'a [String],
    next: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&str> {
        self.tokens.get(self.next).map(String::as_str)
    }

    /// Precedence climbing: operations of at least `precedence`.
    fn expression(&mut self, precedence: u8) -> Option<Expression> {
        let mut left = self.operand()?;
        while let Some(operator) = self.peek().and_then(Operator::from_symbol) {
            if operator.precedence() < precedence {
                break;
            }
            self.next += 1;
            let right = self.expression(operator.precedence() + 1)?;
            left = Expression::operation(operator, left, right);
        }
        Some(left)
    }

    fn operand(&mut self) -> Option<Expression> {
        let token = self.peek()?;
        if token == "(" {
            self.next += 1;
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return None;
            }
            let inner = self.expression(1)?;
            self.depth -= 1;
            (self.peek()? == ")").then_some(())?;
            self.next += 1;
            return Some(inner);
        }
        let number = if token == "-" {
            self.next += 1;
            format!("-{}", self.peek()?)
        } else {
            token.to_string()
        };
        Rational::parse(&number)?;
        self.next += 1;
        Some(Expression::Number(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<String> {
        Expression::parse(text)?.value().map(|value| value.to_string())
    }

    #[test]
    fn values_follow_precedence() {
        for (text, expected) in [
            ("1 + 2 * 3", "7"),
            ("(1+2)*3", "9"),
            ("10 - 3 - 2", "5"),
            ("10 - ( 3 - 2 )", "9"),
            ("8 / 4 / 2", "1"),
            ("0.1 + 0.2", "0.3"),
            ("1,000 * 2", "2000"),
            ("7", "7"),
            ("-7 + 2", "-5"),
            ("2 - -7", "9"),
        ] {
            assert_eq!(value(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_not_an_expression() {
        for text in [
            "", "1 +", "( 1", "1 )", "1 2", "one", "1 + x", "Level: 3", "* 1 2", "1..2 + 1", "()", "--1",
            "-", "-(1)",
        ] {
            assert_eq!(Expression::parse(text), None, "{text}");
        }
        assert_eq!(Expression::parse(&"(".repeat(100_000)), None);
        assert_eq!(value("1 / 0"), None);
    }

    #[test]
    fn texts_of_any_length_are_safe() {
        let sum = |terms: usize| format!("1{}", "+1".repeat(terms - 1));
        assert_eq!(value(&sum(MAX_TOKENS / 2)), Some((MAX_TOKENS / 2).to_string()));
        assert_eq!(Expression::parse(&sum(1_000_000)), None);
        assert_eq!(Expression::parse(&"1".repeat(1_000_000)), None);
        let prefix = |operations: usize| "+ ".repeat(operations) + &"1 ".repeat(operations + 1);
        assert!(Expression::parse_prefix(&prefix(MAX_TOKENS / 2 - 1), &[]).is_some());
        assert_eq!(Expression::parse_prefix(&prefix(500_000), &[]), None);
    }

    #[test]
    fn printing_reads_back_as_the_same_tree() {
        let numbers = ["16".to_string(), "14".into(), "5".into()];
        for prefix in [
            "/ + number0 number1 number2",
            "- number0 - number1 number2",
            "+ number0 + number1 number2",
            "* - number0 number1 + number2 100.0",
            "/ number0 * number1 number2",
            "+ / number0 number1 number2",
        ] {
            let tree = Expression::parse_prefix(prefix, &numbers).unwrap();
            assert_eq!(Expression::parse(&tree.to_string()), Some(tree.clone()), "{prefix}: {tree}");
        }
        assert_eq!(
            Expression::parse_prefix("/ + number0 number1 number2", &numbers).unwrap().to_string(),
            "( 16 + 14 ) / 5"
        );
    }

    #[test]
    fn sums_and_products_commute() {
        let parse = |text| Expression::parse(text).unwrap();
        assert!(parse("2 * ( 3 + 4 )").same_calculation(&parse("( 4 + 3.0 ) * 2")));
        assert!(!parse("3 - 4").same_calculation(&parse("4 - 3")));
    }
}
