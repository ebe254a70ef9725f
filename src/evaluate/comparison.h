#pragma once
// One forward on two sides, op by op: the same prompt through two loaded models, or through one and through another program whose rows
// were recorded. Both sides go through the prompt piece by piece, so that no more than a piece's values are held.
#include <span>
#include <string>
#include <vector>

#include "evaluate/difference.h"
#include "evaluate/recorded_rows.h"
#include "generate/generator.h"

namespace tessera {

struct OpComparison {
  std::string name, op;  // Observation's
  std::optional<int64_t> layer;
  int64_t width;  // values a token
  DataType a_type, b_type;
  Difference difference;
};

struct Comparison {
  int64_t tokens = 0;
  std::vector<OpComparison> ops;            // in the order of a's forward
  std::vector<std::string> only_a, only_b;  // ops that the other side does not have: not compared
};

// The first op whose PCC is below `threshold`; nullptr: none is.
const OpComparison* first_below(const Comparison& comparison, double threshold);

// `b` is the reference; its device may be a's. The devices are observed while the prompt goes through them. Throws std::invalid_argument
// when no op is common to both, when an op's width differs, or when the generators cut the prompt differently; what stops a forward
// otherwise.
Comparison compare_forwards(Generator& a, Generator& b, const std::vector<TokenId>& tokens, const Generator::Progress& progress = {});
Comparison compare_with_recording(Generator& a, const RecordedRows& b, const Generator::Progress& progress = {});

}  // namespace tessera
