// Caches, sequences, the generator and the sampler.
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/unordered_map.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <set>

#include "bindings.h"
#include "core/error.h"
#include "evaluation.h"
#include "generate/generation.h"
#include "token_ids.h"

namespace tessera::python {
namespace {

using namespace nb::literals;
using Logits = nb::ndarray<nb::numpy, float, nb::ndim<2>, nb::c_contig>;
using LogitsRow = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <class T>
nb::ndarray<nb::numpy, T, nb::ndim<1>> as_array(const std::vector<T>& values) {
  auto copy = std::make_unique<std::vector<T>>(values);
  T* data = copy->data();
  const nb::capsule owner(copy.get(), [](void* vector) noexcept { delete static_cast<std::vector<T>*>(vector); });
  return {data, {copy.release()->size()}, owner};
}

// A Sampler whose arguments are checked: in C++ they come from code that has done so.
class CheckedSampler {
 public:
  CheckedSampler(const SamplingParams& params, const TokenIds& end_tokens) : end_tokens_(end_tokens.ids()), sampler_(params, end_tokens_) {}

  TokenId sample(const LogitsRow& logits, const TokenIds& tokens, size_t prompt, uint64_t sample) {
    expect(static_cast<int64_t>(logits.size()), tokens.values.size(), prompt);
    return sampler_.sample({logits.data(), logits.size()}, tokens.ids(), prompt, sample);
  }

  std::vector<std::pair<TokenId, double>> candidates(const LogitsRow& logits, const TokenIds& tokens, size_t prompt) {
    expect(static_cast<int64_t>(logits.size()), tokens.values.size(), prompt);
    std::vector<std::pair<TokenId, double>> found;
    for (const TokenProbability& c : sampler_.candidates({logits.data(), logits.size()}, tokens.ids(), prompt))
      found.emplace_back(c.token, c.probability);
    return found;
  }

  void set_max_length(int64_t max_length) { sampler_.set_max_length(max_length); }

  void expect(int64_t vocab, size_t tokens, size_t prompt) const {
    check(vocab >= 1, "sampler: no logits");
    check(prompt <= tokens, "sampler: a prompt of ", prompt, " tokens is longer than the ", tokens, " in all");
    for (TokenId token : end_tokens_) check(token < vocab, "sampler: end token ", token, " is outside the vocabulary of ", vocab);
    check_sampling(sampler_.params(), vocab);
  }

  Sampler& sampler() { return sampler_; }

 private:
  std::vector<TokenId> end_tokens_;
  Sampler sampler_;
};

// A Generator for threads: they take turns.
class TurnTakingGenerator {
 public:
  TurnTakingGenerator(const Model& model, Device& device, Cache& cache, int64_t chunk) : generator_(model, device, cache, chunk) {}

  Logits forward(const std::vector<std::pair<nb::object, int64_t>>& wanted, const nb::object& progress) {
    std::vector<Generator::Request> requests;
    std::vector<int64_t> first_rows;  // of a request in the array
    std::set<const Sequence*> seen;
    int64_t rows = 0;
    for (const auto& [object, logit_rows] : wanted) {
      auto* const sequence = nb::cast<Sequence*>(object);
      check(sequence != nullptr && seen.insert(sequence).second, "forward: request ", requests.size(),
            " has the sequence of one before it, or none");
      check(logit_rows >= 0 && logit_rows <= static_cast<int64_t>(sequence->tokens.size()), "forward: the logits of ", logit_rows,
            " rows are wanted of ", sequence->tokens.size(), " tokens");
      requests.push_back({sequence, logit_rows});
      first_rows.push_back(rows);
      rows += logit_rows;
    }
    const auto vocab = static_cast<size_t>(generator_.model().spec().vocab_size);
    auto values = std::make_unique_for_overwrite<float[]>(static_cast<size_t>(rows) * vocab);
    {
      const nb::gil_scoped_release release;
      const std::lock_guard turn(mutex_);
      const auto sink = [&](size_t request, int64_t position, std::span<const float> logits) {
        const Generator::Request& from = requests[request];
        const int64_t row = first_rows[request] + position - (static_cast<int64_t>(from.sequence->tokens.size()) - from.logit_rows);
        std::copy(logits.begin(), logits.end(), values.get() + static_cast<size_t>(row) * vocab);
      };
      generator_.forward(requests, sink, [&](int64_t done, int64_t total) { report(progress, done, total); });
      for (const Generator::Request& request : requests)
        if (request.error) std::rethrow_exception(request.error);
    }
    const nb::capsule owner(values.get(), [](void* array) noexcept { delete[] static_cast<float*>(array); });
    return {values.release(), {static_cast<size_t>(rows), vocab}, owner};
  }

  ReferenceScore score_reference(const Reference& reference, int threads, const nb::object& progress) {
    check_lists(reference);
    const int64_t vocab = generator_.model().spec().vocab_size;
    for (const auto& ids : {reference.prompt, reference.fed(), reference.tokens})
      for (const TokenId id : ids) check(id < vocab, "reference: token ", id, " is outside the vocabulary of ", vocab);
    const nb::gil_scoped_release release;
    const std::lock_guard turn(mutex_);
    return tessera::score_reference(generator_, reference, threads, [&](int64_t done, int64_t total) { report(progress, done, total); });
  }

  TokenId sample(Sequence& sequence, CheckedSampler& sampler, size_t prompt, uint64_t sample) {
    sampler.expect(generator_.model().spec().vocab_size, sequence.tokens.size(), prompt);
    check(!sequence.tokens.empty(), "sample: the sequence has no tokens");
    const nb::gil_scoped_release release;
    const std::lock_guard turn(mutex_);
    TokenId chosen = 0;
    const auto take = [&](const NewToken& token) {
      chosen = token.id;
      return false;
    };
    const auto known = static_cast<int64_t>(sequence.tokens.size());
    Generation generation{
        .sequence = sequence, .sampler = sampler.sampler(), .max_new_tokens = 1, .prompt = prompt, .sample = sample, .goes_on = take};
    generate(generator_, std::span(&generation, 1));
    generator_.cache().truncate(sequence, known);
    return chosen;
  }

  int64_t chunk() const { return generator_.chunk(); }

 private:
  Generator generator_;
  std::mutex mutex_;
};

void bind_sequence(nb::module_& m) {
  nb::class_<Sequence>(m, "Sequence", "One conversation, made by a Cache. One thread at a time uses it.")
      .def_prop_rw(
          "tokens", [](const Sequence& self) { return as_array(self.tokens); },
          [](Sequence& self, const TokenIds& ids) {
            const std::vector<TokenId> tokens = ids.ids();
            const auto cached = static_cast<size_t>(self.length());
            check(tokens.size() >= cached &&
                      std::equal(self.tokens.begin(), self.tokens.begin() + static_cast<std::ptrdiff_t>(cached), tokens.begin()),
                  "sequence: its first ", cached, " tokens are cached and cannot change; cut it with Cache.truncate first");
            self.tokens = tokens;
          },
          nb::for_getter(nb::rv_policy::move), nb::for_getter(nb::sig("def tokens(self) -> numpy.typing.NDArray[numpy.int32]")),
          "A copy of the token ids, those not cached yet included. Setting them keeps the cached ones.")
      .def(
          "append",
          [](Sequence& self, const TokenIds& ids) {
            const std::vector<TokenId> more = ids.ids();
            self.tokens.insert(self.tokens.end(), more.begin(), more.end());
          },
          "ids"_a, "Tokens to be forwarded later.")
      .def(
          "__len__", [](const Sequence& self) { return self.tokens.size(); }, "Tokens, those not cached yet included.")
      .def_prop_ro("length", &Sequence::length, "Tokens whose keys and values are cached.")
      .def_prop_ro("rope_length", &Sequence::rope_length);
}

void bind_cache(nb::module_& m) {
  nb::class_<Cache>(m, "Cache", "The pages of one device and one model. Sequences share pages and copy them on write.")
      .def(
          "__init__",
          [](Cache* self, Device& device, const CacheSpec& spec, const std::string& dtype, int64_t max_tokens, int64_t max_sequences,
             int64_t rewind_tokens, bool prefix_cache) {
            new (self) Cache(device, spec,
                             {.dtype = parse_data_type(dtype),
                              .max_tokens = max_tokens,
                              .max_sequences = max_sequences,
                              .rewind_tokens = rewind_tokens,
                              .prefix_cache = prefix_cache});
          },
          "device"_a, "spec"_a, nb::kw_only(), "dtype"_a, "max_tokens"_a, "max_sequences"_a = 1,
          "rewind_tokens"_a = CacheOptions().rewind_tokens, "prefix_cache"_a = CacheOptions().prefix_cache, nb::keep_alive<1, 2>(),
          "Room for max_tokens tokens, summed over the sequences, of which max_sequences live at the same time; rewind_tokens are kept "
          "behind a window. With prefix_cache, whole pages are found again by their texts.\n"
          "Raises ResourceError.")
      .def("create", &Cache::create, "salt"_a = "", nb::keep_alive<0, 1>(), "Pages are found again under the same salt alone.")
      .def("fork", &Cache::fork, "sequence"_a, nb::keep_alive<0, 1>(), "A sequence with the same tokens and pages.")
      .def("truncate", &Cache::truncate, "sequence"_a, "length"_a, "Forgets the tokens from `length` on.")
      .def("rewind", &Cache::rewind, "sequence"_a, "position"_a,
           "Takes the cached length back and keeps the token ids, to be forwarded again.")
      .def_prop_ro("page_tokens", &Cache::page_tokens)
      .def_prop_ro("groups", &Cache::groups)
      .def_prop_ro("sequences", &Cache::sequences, "That live now.")
      .def_prop_ro("max_sequences", [](const Cache& self) { return self.options().max_sequences; })
      .def_prop_ro("max_tokens", [](const Cache& self) { return self.options().max_tokens; })
      .def("free_pages", &Cache::free_pages, "group"_a)
      .def("total_pages", &Cache::total_pages, "group"_a);
}

void bind_sampler(nb::module_& m) {
  nb::class_<SamplingParams>(m, "SamplingParams", "How the next token is chosen, in the order of transformers' generate().")
      .def(nb::init<>())
      .def_rw("temperature", &SamplingParams::temperature, "0: greedy.")
      .def_rw("top_k", &SamplingParams::top_k, "0: all.")
      .def_rw("top_p", &SamplingParams::top_p)
      .def_rw("min_p", &SamplingParams::min_p)
      .def_rw("repetition_penalty", &SamplingParams::repetition_penalty)
      .def_rw("presence_penalty", &SamplingParams::presence_penalty)
      .def_rw("frequency_penalty", &SamplingParams::frequency_penalty)
      .def_rw("logit_bias", &SamplingParams::logit_bias)
      .def_rw("min_new_tokens", &SamplingParams::min_new_tokens)
      .def_rw("ignore_eos", &SamplingParams::ignore_eos)
      .def_rw("seed", &SamplingParams::seed)
      .def_rw("processors", &SamplingParams::processors);
  m.def("check_sampling", &check_sampling, "params"_a, "vocab_size"_a, "Raises ValueError naming the field, its value and its limits.");
  nb::class_<CheckedSampler>(m, "Sampler")
      .def(nb::init<const SamplingParams&, const TokenIds&>(), "params"_a, "end_tokens"_a)
      .def("sample", &CheckedSampler::sample, "logits"_a, "tokens"_a, "prompt"_a, "sample"_a = 0,
           "The token after `tokens`, of which the first `prompt` are the prompt's.")
      .def("candidates", &CheckedSampler::candidates, "logits"_a, "tokens"_a, "prompt"_a,
           "The tokens that the draw is made from and their probabilities, the most probable first.")
      .def("set_max_length", &CheckedSampler::set_max_length, "max_length"_a,
           "The last token of a text of so many, the prompt's among them, is one of forced_eos_token_id.");
}

}  // namespace

void bind_generation(nb::module_& m) {
  bind_sequence(m);
  bind_cache(m);
  bind_sampler(m);
  nb::class_<TurnTakingGenerator>(m, "Generator", "Feeds sequences through a model. Threads take turns.")
      .def(nb::init<const Model&, Device&, Cache&, int64_t>(), "model"_a, "device"_a, "cache"_a, "chunk"_a = 0, nb::keep_alive<1, 2>(),
           nb::keep_alive<1, 3>(), nb::keep_alive<1, 4>(), "chunk: the longest piece of a prompt in one Batch; 0: what the device takes.")
      .def("forward", &TurnTakingGenerator::forward, "requests"_a, "progress"_a = nb::none(),
           nb::sig("def forward(self, requests: collections.abc.Sequence[tuple[Sequence, int]], "
                   "progress: collections.abc.Callable[[int, int], object] | None = None) -> numpy.typing.NDArray[numpy.float32]"),
           "Forwards the tokens that are not cached yet of each request's sequence, and gives the logits of its last so many tokens: "
           "float32\n"
           "[rows, vocab], request after request. progress(done, total) is called after each Batch of tokens; what it raises stops the "
           "rest.\n"
           "Raises what stopped the first sequence that could not go on; the others have gone on.")
      .def(
          "score_reference", &TurnTakingGenerator::score_reference, "reference"_a, "threads"_a = 1, "progress"_a = nb::none(),
          "Feeds what the reference was fed, in as few forwards as it was made with, and judges the choice at each place; `threads` judge.")
      .def("sample", &TurnTakingGenerator::sample, "sequence"_a, "sampler"_a, "prompt"_a, "sample"_a = 0,
           "Forwards what is not cached yet, and gives the token that `sampler` takes then, as it would from all logits: of these the "
           "device gives\n"
           "only as many as it needs.")
      .def_prop_ro("chunk", &TurnTakingGenerator::chunk);
}

}  // namespace tessera::python
