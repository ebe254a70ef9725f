#include "grammar/compiled_form.h"

#include <compiled_grammar_impl.h>
#include <grammar_impl.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "core/error.h"

namespace tessera::grammar {
namespace {

using xgrammar::AdaptiveTokenMask;
using xgrammar::DynamicBitset;
using xgrammar::ParserState;

class Writer {
 public:
  void number(int64_t value) { raw(&value, sizeof value); }
  template <class T>
  void list(const std::vector<T>& values) {
    static_assert(std::is_trivially_copyable_v<T>);
    number(static_cast<int64_t>(values.size()));
    raw(values.data(), values.size() * sizeof(T));
  }
  void text(std::string_view text) {
    number(static_cast<int64_t>(text.size()));
    raw(text.data(), text.size());
  }
  void bits(const DynamicBitset& bits) {
    std::vector<uint32_t> words(static_cast<size_t>(DynamicBitset::GetBufferSize(bits.Size())));
    if (!words.empty()) DynamicBitset(bits.Size(), words.data()) = bits;
    number(bits.Size());
    list(words);
  }
  std::string take() { return std::move(bytes_); }

 private:
  void raw(const void* data, size_t size) { bytes_.append(static_cast<const char*>(data), size); }

  std::string bytes_;
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  int64_t number() {
    int64_t value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  int32_t number_in(int64_t begin, int64_t end) {
    const int64_t value = number();
    expect(value >= begin && value < end);
    return static_cast<int32_t>(value);
  }
  template <class T>
  std::vector<T> list() {
    const int64_t count = number();
    expect(count >= 0 && static_cast<uint64_t>(count) <= bytes_.size() / sizeof(T));
    std::vector<T> values(static_cast<size_t>(count));
    const std::string_view from = take(values.size() * sizeof(T));
    if (!values.empty()) std::memcpy(values.data(), from.data(), from.size());
    return values;
  }
  // Each in [0, end).
  std::vector<int32_t> indices(int64_t end) {
    std::vector<int32_t> values = list<int32_t>();
    expect(std::all_of(values.begin(), values.end(), [&](int32_t value) { return value >= 0 && value < end; }));
    return values;
  }
  std::string text() {
    const int64_t size = number();
    expect(size >= 0);
    return std::string(take(static_cast<size_t>(size)));
  }
  DynamicBitset bits(int64_t most) {
    const int32_t size = number_in(0, most + 1);
    std::vector<uint32_t> words = list<uint32_t>();
    expect(words.size() == static_cast<size_t>(DynamicBitset::GetBufferSize(size)));
    DynamicBitset bits(size);
    if (size > 0) bits = DynamicBitset(size, words.data());
    return bits;
  }
  void end() const { expect(bytes_.empty()); }
  static void expect(bool ok) { check<std::runtime_error>(ok, "grammar: a compiled form is damaged"); }

 private:
  std::string_view take(size_t size) {
    expect(size <= bytes_.size());
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }

  std::string_view bytes_;
};

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
    const xgrammar::CompactFSMWithStartEnd automaton(grammar.complete_fsm, start, in.indices(states));
    grammar.per_rule_fsms.emplace_back(xgrammar::CompactFSMWithStartEndWithSize(automaton, 0, 0));  // the sizes serve the compiler
  }
}

void write_mask(Writer& out, const ParserState& state, const AdaptiveTokenMask& mask) {
  for (const int32_t part : {state.rule_id, state.sequence_id, state.element_id, state.sub_element_id}) out.number(part);
  out.number(static_cast<int64_t>(mask.store_type));
  out.list(mask.accepted_indices);
  out.list(mask.rejected_indices);
  out.bits(mask.accepted_bitset);
  out.list(mask.uncertain_indices);
  out.list(mask.repeat_interior_char_counts);
  for (const DynamicBitset& bits : mask.repeat_interior_bitsets) out.bits(bits);
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
  mask.accepted_indices = in.indices(tokens);
  mask.rejected_indices = in.indices(tokens);
  mask.accepted_bitset = in.bits(vocabulary.GetVocabSize());
  Reader::expect(mask.store_type != AdaptiveTokenMask::StoreType::kAcceptedBitset ||
                 mask.accepted_bitset.Size() == vocabulary.GetVocabSize());
  mask.uncertain_indices = in.indices(tokens);
  mask.repeat_interior_char_counts = in.list<int32_t>();
  for (size_t i = 0; i < mask.repeat_interior_char_counts.size(); ++i) {
    mask.repeat_interior_bitsets.push_back(in.bits(vocabulary.GetVocabSize()));
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
