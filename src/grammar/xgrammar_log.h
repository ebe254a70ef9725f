#pragma once
// What xgrammar would print. This is a part of its library, which calls it: an error is thrown as a std::runtime_error of its text.
#include <string>
#include <vector>

namespace tessera::grammar {

// While one lives, what xgrammar warns of in this thread is gathered. One at a time.
class Warnings {
 public:
  Warnings();
  Warnings(const Warnings&) = delete;
  Warnings& operator=(const Warnings&) = delete;
  ~Warnings();
  const std::vector<std::string>& texts() const { return texts_; }

 private:
  std::vector<std::string> texts_;
};

}  // namespace tessera::grammar
