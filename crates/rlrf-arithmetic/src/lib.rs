//! Word problems whose answer is an arithmetic expression: exact checking, critiques, demonstrations.
