#include "cli/line_editor.h"

#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <deque>
#include <iostream>
#include <string_view>
#include <utility>

#include "cli/given_text.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "text/utf8.h"

namespace tessera {
namespace {

constexpr std::string_view kBracketsOn = "\033[?2004h", kBracketsOff = "\033[?2004l";  // the terminal then marks what is pasted
constexpr std::string_view kPasteBegin = "\033[200~", kPasteEnd = "\033[201~";
constexpr wchar_t kReturnSign = L'\u23CE';
constexpr int kHistoryLines = 1000;

}  // namespace

// libedit asks next() for characters: bytes from the terminal, made into characters here, with the marks of pastes taken out.
struct LineEditor::Terminal {
  Terminal() {
    std::setlocale(LC_CTYPE, "C.UTF-8");  // libedit shows characters by the locale
    edit = el_init("tessera", stdin, stdout, stderr);
    history = history_winit();
    HistEventW event;
    history_w(history, &event, H_SETSIZE, kHistoryLines);
    history_w(history, &event, H_SETUNIQUE, 1);
    el_wset(edit, EL_CLIENTDATA, this);
    el_wset(edit, EL_HIST, history_w, history);
    el_wset(
        edit, EL_PROMPT, +[](EditLine* line) {
          Terminal* self = nullptr;
          el_wget(line, EL_CLIENTDATA, &self);
          return self->prompt.data();
        });
    el_wset(
        edit, EL_GETCFN, +[](EditLine* line, wchar_t* character) {
          Terminal* self = nullptr;
          el_wget(line, EL_CLIENTDATA, &self);
          return self->next(*character);
        });
    el_wset(edit, EL_EDITOR, L"emacs");
    write_out(kBracketsOn);
  }

  ~Terminal() {
    history_wend(history);
    el_end(edit);
    std::fputs(kBracketsOff.data(), stdout);
    std::fflush(stdout);
  }

  // 1: a byte; 0: the input ended or a signal came.
  int read_byte(unsigned char& byte) {
    if (!ahead.empty()) {
      byte = ahead.front();
      ahead.pop_front();
      return 1;
    }
    return ::read(STDIN_FILENO, &byte, 1) == 1 ? 1 : 0;
  }

  // Whether the bytes to come are `mark`; if not, they stay.
  bool take(std::string_view mark) {
    for (size_t i = 0; i < mark.size(); ++i) {
      if (ahead.size() <= i) {
        pollfd ready{STDIN_FILENO, POLLIN, 0};
        unsigned char byte;
        if (::poll(&ready, 1, 50) != 1 || ::read(STDIN_FILENO, &byte, 1) != 1) return false;
        ahead.push_back(byte);
      }
      if (ahead[i] != static_cast<unsigned char>(mark[i])) return false;
    }
    ahead.erase(ahead.begin(), ahead.begin() + static_cast<std::ptrdiff_t>(mark.size()));
    return true;
  }

  int next(wchar_t& character) {
    unsigned char byte;
    for (;;) {
      if (!read_byte(byte)) return 0;
      if (byte != kPasteBegin[0] || !take((pasting ? kPasteEnd : kPasteBegin).substr(1))) break;
      pasting = !pasting;
    }
    character = static_cast<wchar_t>(byte);
    if (pasting && (byte == '\r' || byte == '\n')) character = kReturnSign;
    if (byte < 0x80) return 1;
    std::string bytes(1, static_cast<char>(byte));
    text::Utf8Character c = text::first_character(bytes);
    while (c.cut) {
      if (!read_byte(byte)) return 0;
      bytes += static_cast<char>(byte);
      c = text::first_character(bytes);
    }
    if (c.bytes < bytes.size()) ahead.push_front(byte);  // begins the next character
    character = static_cast<wchar_t>(c.code_point);
    return 1;
  }

  EditLine* edit;
  HistoryW* history;
  std::wstring prompt;
  std::deque<unsigned char> ahead;  // bytes read but not given out
  bool pasting = false;
};

LineEditor::LineEditor() {
  if (::isatty(STDIN_FILENO) && ::isatty(STDOUT_FILENO)) terminal_ = std::make_unique<Terminal>();
}

LineEditor::~LineEditor() = default;

std::optional<std::string> LineEditor::read_line(const std::string& prompt) {
  std::string line;
  if (!terminal_) {
    SignalWatch::expect_none();
    if (!std::getline(std::cin, line)) {
      SignalWatch::expect_none();
      return std::nullopt;
    }
    if (line.ends_with('\r')) line.pop_back();
    if (std::exchange(first_, false)) drop_byte_order_mark(line, "standard input");
    return line;
  }
  terminal_->prompt.assign(prompt.begin(), prompt.end());
  int count = 0;
  const wchar_t* typed = el_wgets(terminal_->edit, &count);
  SignalWatch::expect_none();
  if (!typed || count <= 0) return std::nullopt;
  HistEventW event;
  if (count > 1) history_w(terminal_->history, &event, H_ENTER, typed);
  for (int i = 0; i < count; ++i) text::append_utf8(line, static_cast<char32_t>(typed[i] == kReturnSign ? L'\n' : typed[i]));
  if (line.ends_with('\n')) line.pop_back();
  return line;
}

std::optional<std::string> LineEditor::read(const std::string& prompt) {
  std::optional<std::string> entry = read_line(prompt);
  while (entry && entry->ends_with('\\')) {
    entry->back() = '\n';
    const std::optional<std::string> more = read_line("... ");
    if (!more) break;
    *entry += *more;
  }
  return entry;
}

}  // namespace tessera
