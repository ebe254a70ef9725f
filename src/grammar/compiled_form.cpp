#include "grammar/compiled_form.h"

#include <compiled_grammar_impl.h>
#include <grammar_impl.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include "core/error.h"
#include "grammar/byte_stream.h"

namespace tessera::grammar {
namespace {

using xgrammar::AdaptiveTokenMask;
using xgrammar::DynamicBitset;
using xgrammar::ParserState;

void write_bits(Writer& out, const DynamicBitset& bits) {
  std::vector<uint32_t> words(static_cast<size_t>(DynamicBitset::GetBufferSize(bits.Size())));
  if (!words.empty()) DynamicBitset(bits.Size(), words.data()) = bits;
  out.number(bits.Size());
  out.list(words);
}

DynamicBitset read_bits(Reader& in, int64_t most) {
  const int32_t size = in.number_in(0, most + 1);
  std::vector<uint32_t> words = in.list<uint32_t>();
  Reader::expect(words.size() == static_cast<size_t>(DynamicBitset::GetBufferSize(size)));
  DynamicBitset bits(size);
  const DynamicBitset view(size, words.data());
  if (size > 0) bits = view;  // a copy: what is moved from a view would be a view
  return bits;
}

// Each in [0, end).
std::vector<int32_t> read_indices(Reader& in, int64_t end) {
  std::vector<int32_t> values = in.list<int32_t>();
  Reader::expect(std::all_of(values.begin(), values.end(), [&](int32_t value) { return value >= 0 && value < end; }));
  return values;
}

// A rule's automaton is a part of the grammar's one, from a state to some others.
void write_rules(Writer& out, const xgrammar::Grammar::Impl& grammar) {
  for (const auto& rule : grammar.per_rule_fsms) {
    check<std::runtime_error>(rule && rule->GetFsm().GetFsm().ImplPtr() == grammar.complete_fsm.ImplPtr(),
                              "grammar: a rule has an automaton of its own");
    out.number(rule->GetFsm().GetStart());
    out.list(rule->GetFsm().GetEnds());
  }
}

void read_rules(Reader& in, xgrammar::Grammar::Impl& grammar) {
  const int64_t states = grammar.complete_fsm.NumStates();
  for (int rule = 0; rule < grammar.NumRules(); ++rule) {
    const int32_t start = in.number_in(0, states);
    const xgrammar::CompactFSMWithStartEnd automaton(grammar.complete_fsm, start, read_indices(in, states));
    grammar.per_rule_fsms.emplace_back(xgrammar::CompactFSMWithStartEndWithSize(automaton, 0, 0));  // the sizes serve the compiler
  }
}

void write_mask(Writer& out, const ParserState& state, const AdaptiveTokenMask& mask) {
  for (const int32_t part : {state.rule_id, state.sequence_id, state.element_id, state.sub_element_id}) out.number(part);
  out.number(static_cast<int64_t>(mask.store_type));
  out.list(mask.accepted_indices);
  out.list(mask.rejected_indices);
  write_bits(out, mask.accepted_bitset);
  out.list(mask.uncertain_indices);
  out.list(mask.repeat_interior_char_counts);
  for (const DynamicBitset& bits : mask.repeat_interior_bitsets) write_bits(out, bits);
  std::vector<int32_t> exits;
  for (const auto& [repeats, token] : mask.repeat_exit_tokens) exits.insert(exits.end(), {repeats, token});
  out.list(exits);
}

std::pair<ParserState, AdaptiveTokenMask> read_mask(Reader& in, const xgrammar::Grammar::Impl& grammar,
                                                    const xgrammar::TokenizerInfo& vocabulary) {
  ParserState state;
  AdaptiveTokenMask mask;
  state.rule_id = in.number_in(0, grammar.NumRules());
  state.sequence_id = static_cast<int32_t>(in.number());
  state.element_id = static_cast<int32_t>(in.number());
  state.sub_element_id = static_cast<int32_t>(in.number());
  const int64_t tokens = static_cast<int64_t>(vocabulary.GetSortedDecodedVocab().size());
  mask.store_type = static_cast<AdaptiveTokenMask::StoreType>(in.number_in(0, 3));
  mask.accepted_indices = read_indices(in, tokens);
  mask.rejected_indices = read_indices(in, tokens);
  mask.accepted_bitset = read_bits(in, vocabulary.GetVocabSize());
  Reader::expect(mask.store_type != AdaptiveTokenMask::StoreType::kAcceptedBitset ||
                 mask.accepted_bitset.Size() == vocabulary.GetVocabSize());
  mask.uncertain_indices = read_indices(in, tokens);
  mask.repeat_interior_char_counts = in.list<int32_t>();
  for (size_t i = 0; i < mask.repeat_interior_char_counts.size(); ++i) {
    mask.repeat_interior_bitsets.push_back(read_bits(in, vocabulary.GetVocabSize()));
    Reader::expect(mask.repeat_interior_bitsets.back().Size() == vocabulary.GetVocabSize());
  }
  const std::vector<int32_t> exits = in.list<int32_t>();
  Reader::expect(exits.size() % 2 == 0);
  for (size_t i = 0; i < exits.size(); i += 2) {
    Reader::expect(exits[i + 1] >= 0 && exits[i + 1] < vocabulary.GetVocabSize());
    mask.repeat_exit_tokens.emplace_back(exits[i], exits[i + 1]);
  }
  return {state, std::move(mask)};
}

}  // namespace

std::string write_compiled(const xgrammar::CompiledGrammar& compiled) {
  const xgrammar::CompiledGrammar::Impl& from = *compiled.ImplPtr();
  const auto slim = std::make_shared<xgrammar::Grammar::Impl>(*from.grammar.ImplPtr());
  slim->per_rule_fsms.clear();
  slim->optimized = false;  // else it would not be read without them
  Writer out;
  out.text(xgrammar::Grammar(slim).SerializeJSON());
  write_rules(out, *from.grammar.ImplPtr());
  out.number(static_cast<int64_t>(from.adaptive_token_mask_cache.size()));
  for (const auto& [state, mask] : from.adaptive_token_mask_cache) write_mask(out, state, mask);
  return out.take();
}

xgrammar::CompiledGrammar read_compiled(std::string_view bytes, const xgrammar::TokenizerInfo& vocabulary) {
  Reader in(bytes);
  auto read = xgrammar::Grammar::DeserializeJSON(in.text());
  Reader::expect(std::holds_alternative<xgrammar::Grammar>(read));
  auto compiled = std::make_shared<xgrammar::CompiledGrammar::Impl>();
  compiled->tokenizer_info = vocabulary;
  compiled->grammar = std::get<xgrammar::Grammar>(std::move(read));
  xgrammar::Grammar::Impl& grammar = *compiled->grammar.ImplPtr();
  Reader::expect(!grammar.complete_fsm.IsNull());
  read_rules(in, grammar);
  grammar.optimized = true;
  for (int64_t left = in.number(); left > 0; --left) compiled->adaptive_token_mask_cache.insert(read_mask(in, grammar, vocabulary));
  in.end();
  return xgrammar::CompiledGrammar(std::move(compiled));
}

}  // namespace tessera::grammar
