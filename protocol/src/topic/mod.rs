//! Topic names and filters: parsing, `$share`, and the naive matcher that the trie is tested against.
