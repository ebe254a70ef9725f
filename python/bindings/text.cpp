#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include "bindings.h"
#include "core/kept_file.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"
#include "token_ids.h"

namespace tessera::python {

using namespace nb::literals;

void bind_text(nb::module_& m) {
  nb::class_<Tokenizer>(m, "Tokenizer", "A checkpoint's tokenizer, read from its tokenizer.json. Threads may share it.")
      .def_static(
          "load", [](const std::string& path) { return Tokenizer::load(path, kept_folder()); }, "path"_a,
          nb::call_guard<nb::gil_scoped_release>(), "Raises FileError.")
      .def_static("parse", &Tokenizer::parse, "json"_a, "source"_a, nb::call_guard<nb::gil_scoped_release>(),
                  "The same from JSON in memory; `source` begins every message.")
      .def(
          "encode",
          [](const Tokenizer& self, const std::string& text, bool add_special_tokens, bool parse_special) {
            return self.encode(text, EncodeOptions{.add_special_tokens = add_special_tokens, .parse_special = parse_special});
          },
          "text"_a, nb::kw_only(), "add_special_tokens"_a = false, "parse_special"_a = false, nb::call_guard<nb::gil_scoped_release>(),
          "The ids of a text. parse_special: the texts of control tokens mean these tokens; else they are plain text.")
      .def(
          "decode",
          [](const Tokenizer& self, const TokenIds& ids, bool skip_special) {
            return self.decode(ids.ids(), DecodeOptions{.skip_special = skip_special});
          },
          "ids"_a, nb::kw_only(), "skip_special"_a = false)
      .def("token_to_id", &Tokenizer::token_to_id, "token"_a)
      .def("id_to_token", &Tokenizer::id_to_token, "id"_a, "As the vocabulary has it; empty for an id without a token.")
      .def("has_token", &Tokenizer::has_token, "id"_a)
      .def("is_special", &Tokenizer::is_special, "id"_a)
      .def_prop_ro("vocab_size", &Tokenizer::vocab_size, "One more than the largest id, added tokens included.");

  nb::class_<Detokenizer>(m, "Detokenizer", "Ids to text, one at a time.")
      .def(
          "__init__",
          [](Detokenizer* self, const Tokenizer& tokenizer, bool skip_special) {
            new (self) Detokenizer(tokenizer, DecodeOptions{.skip_special = skip_special});
          },
          "tokenizer"_a, nb::kw_only(), "skip_special"_a = false, nb::keep_alive<1, 2>())
      .def("push", &Detokenizer::push, "id"_a, "The text that this id completes: whole characters, often none.")
      .def("flush", &Detokenizer::flush, "What is still held. The next push begins a new text.");
}

}  // namespace tessera::python
