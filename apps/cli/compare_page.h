#pragma once
#include <string>
#include <vector>

#include "evaluate/comparison.h"

namespace tessera {

// What the report of a comparison says beside its numbers.
struct ComparisonTitle {
  std::string a, b;  // the sides, as people know them
  double threshold;  // PCC
};

// An HTML page that loads nothing from elsewhere: the verdict, the PCC of each op of each layer as a map, PCC and relative error along the
// forward, the error of each token at the first op below the threshold (or the lowest), and all numbers.
std::string comparison_page(const Comparison& comparison, const ComparisonTitle& title);

// "First op below PCC 0.99: ...", or that there is none.
std::string verdict(const Comparison& comparison, double threshold);

// Seven digits, or how far it is from 1.
std::string pcc_text(double pcc);

// The op with the lowest PCC.
const OpComparison& lowest(const Comparison& comparison);

}  // namespace tessera
