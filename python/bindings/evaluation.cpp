// References, and what a model is judged by.
#include "evaluation.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings.h"
#include "core/error.h"
#include "token_ids.h"

namespace tessera::python {
namespace {

using namespace nb::literals;
using LogitsRow = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

std::span<const float> values(const LogitsRow& logits) { return {logits.data(), logits.size()}; }

void check_row(const Reference& reference, size_t i, const LogitsRow& logits) {
  check_lists(reference);
  check(i < reference.tokens.size(), "reference: row ", i, " of ", reference.tokens.size());
  TokenId largest = std::max(reference.tokens[i], reference.fed()[i]);
  if (!reference.top_ids.empty())
    for (const TokenId id : reference.top_ids[i]) largest = std::max(largest, id);
  check(static_cast<size_t>(largest) < logits.size(), "reference: token ", largest, " is outside the vocabulary of ", logits.size());
}

void bind_reference(nb::module_& m) {
  nb::class_<Reference>(m, "Reference", "What a model chose after a prompt, and how sure it was. docs/evaluation.md describes its file.")
      .def(
          "__init__",
          [](Reference* self, const TokenIds& prompt, const std::string& made_by, const TokenIds& forced) {
            new (self) Reference{.made_by = made_by,
                                 .prompt = prompt.ids(),
                                 .tokens = {},
                                 .forced = forced.ids(),
                                 .top5 = {},
                                 .top_ids = {},
                                 .top_log_probs = {}};
          },
          "prompt"_a, nb::kw_only(), "made_by"_a = "", "forced"_a = nb::tuple(),
          "No choices yet. forced: a given text's tokens, which are fed in place of the choices; append() one choice for each.")
      .def_rw("made_by", &Reference::made_by)
      .def_ro("prompt", &Reference::prompt)
      .def_ro("tokens", &Reference::tokens, "The choices behind the prompt.")
      .def_ro("forced", &Reference::forced, "Of a given text: the tokens fed in place of the choices; else empty.")
      .def_prop_ro(
          "fed", [](const Reference& self) { return self.fed(); }, "What follows the prompt when it is fed.")
      .def_ro("top5", &Reference::top5, "Of each choice the five most probable tokens, the most probable first.")
      .def_ro("top_ids", &Reference::top_ids, "Of each the tokens whose log-probabilities are kept.")
      .def_ro("top_log_probs", &Reference::top_log_probs)
      .def(
          "append",
          [](Reference& self, int64_t token, const LogitsRow& logits, size_t top) {
            check(token >= 0 && static_cast<size_t>(token) < logits.size(), "reference: token ", token, " is outside the vocabulary of ",
                  logits.size());
            self.append(static_cast<TokenId>(token), values(logits), top);
          },
          "token"_a, "logits"_a, "top"_a = 64,
          "One more choice, and of the logits that made it the `top` most probable tokens (0: only their five ids).")
      .def(
          "append_top5",
          [](Reference& self, TokenId token, const std::array<TokenId, 5>& top5) {
            check(token >= 0, "token id ", token, " is outside every vocabulary");
            self.tokens.push_back(token);
            self.top5.push_back(top5);
          },
          "token"_a, "top5"_a, "One more choice of which only the five ids are known.");
  m.def("read_reference", &read_reference, "path"_a, "vocab_size"_a, nb::call_guard<nb::gil_scoped_release>(),
        "Raises FileError naming the field and place.");
  m.def(
      "write_reference",
      [](const std::string& path, const Reference& reference) {
        check_lists(reference);
        OutputFile file(path);
        write_reference(file, reference);
      },
      "path"_a, "reference"_a, nb::call_guard<nb::gil_scoped_release>());
}

void bind_score(nb::module_& m) {
  nb::class_<Mean>(m, "Mean")
      .def_prop_ro("count", &Mean::count)
      .def_prop_ro("mean", &Mean::mean)
      .def_prop_ro("max", &Mean::max)
      .def_prop_ro("standard_error", &Mean::standard_error);
  nb::class_<Perplexity>(m, "Perplexity").def_ro("value", &Perplexity::value).def_ro("error", &Perplexity::error, "Its standard error.");
  m.def("perplexity", &perplexity, "losses"_a, "Of a Mean of losses.");
  nb::class_<JudgedRow>(m, "JudgedRow")
      .def_ro("loss", &JudgedRow::loss)
      .def_ro("kl", &JudgedRow::kl)
      .def_ro("top1", &JudgedRow::top1)
      .def_ro("top5", &JudgedRow::top5)
      .def_ro("choice_in_top5", &JudgedRow::choice_in_top5);
  nb::class_<ReferenceScore>(m, "ReferenceScore")
      .def_ro("total", &ReferenceScore::total)
      .def_ro("top1", &ReferenceScore::top1, "The reference's token is our best.")
      .def_ro("top5", &ReferenceScore::top5, "It is among our five best.")
      .def_ro("choice_in_top5", &ReferenceScore::choice_in_top5, "Our best is among the reference's five.")
      .def_ro("distinct", &ReferenceScore::distinct, "Different ids among the reference's tokens.")
      .def_ro("ties", &ReferenceScore::ties, "Places where the reference's best two were less than 0.001 apart.")
      .def_ro("ties_missed", &ReferenceScore::ties_missed, "Of these, places where our best is another.")
      .def_ro("loss", &ReferenceScore::loss, "Of the fed tokens.")
      .def_ro("kl", &ReferenceScore::kl,
              "KL(reference || ours), the kept tokens apart and all others as one; its count is 0 when none are kept.");
  m.def(
      "judge_row",
      [](const Reference& reference, size_t i, const LogitsRow& logits) {
        check_row(reference, i, logits);
        return judge_row(reference, i, values(logits));
      },
      "reference"_a, "i"_a, "logits"_a, "Judges the logits that choose what follows the prompt and the first i fed tokens.");
  m.def(
      "sum_up", [](const Reference& reference, const std::vector<JudgedRow>& judged) { return sum_up(reference, judged); }, "reference"_a,
      "judged"_a, "Of all of the reference's places, in their order.");
}

}  // namespace

void check_lists(const Reference& reference) {
  const size_t count = reference.tokens.size();
  check(!reference.prompt.empty(), "reference: the prompt is empty");
  check(reference.forced.empty() || reference.forced.size() == count, "reference: ", count, " choices for ", reference.forced.size(),
        " forced tokens");
  check(reference.top5.size() == count && reference.top_ids.size() == reference.top_log_probs.size() &&
            (reference.top_ids.empty() || reference.top_ids.size() == count),
        "reference: log-probabilities of ", reference.top_ids.size(), " of ", count, " choices are kept");
}

void bind_evaluation(nb::module_& m) {
  bind_reference(m);
  bind_score(m);
}

}  // namespace tessera::python
