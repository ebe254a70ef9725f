#pragma once
#include <cstdint>
#include <memory>
#include <span>

#include "core/types.h"

namespace tessera {

// Which tokens may come next in a text that has to keep to a form. One thread at a time.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;

  // Bit i % 32 of word i / 32: whether token i may come. False: all may, and the bits are not written. Throws std::runtime_error where none
  // may, or it cannot be found out in the time that a token has.
  virtual bool allowed(std::span<int32_t> bits) = 0;
  // The next token, one that may come.
  virtual void accept(TokenId token) = 0;
  // Takes the last of those accepted back.
  virtual void rollback(int64_t tokens) = 0;
  // The same text so far, for another answer.
  virtual std::unique_ptr<TokenConstraint> fork() const = 0;
};

}  // namespace tessera
