"""Ways out through C code and shared tables of the library that trust what an agent's class answers."""

from __future__ import annotations

C_CODE: dict[str, str] = {
    "getattr_answers_typing_subst": """
class A:
    def __getattr__(self, n):
        if n == '__typing_subst__': return lambda x: 5
        if n == '__typing_is_unpacked_typevartuple__': return True
        raise AttributeError(n)
list[A()][int]
print('ESCAPED')
""",
    "getattr_answers_a_protocol": """
asked = []
class A:
    def __getattr__(self, n):
        asked.append(n)
        raise AttributeError(n)
try: (int | list[A()])[int]
except TypeError: pass
if any(n.startswith('__') for n in asked): print('ESCAPED', asked)
""",
    "group_with_slots_of_a_dataclass": """
import dataclasses
class L(list):
    def __call__(self, t): return 5
@dataclasses.dataclass
class M:
    m: object
    split: object
@dataclasses.dataclass(slots=True)
class G(M, ExceptionGroup): pass
print('ESCAPED', G.split)
""",
    "group_with_a_shared_field": """
import dataclasses
f = dataclasses.field()
@dataclasses.dataclass
class M:
    m: object
    n: object = f
@dataclasses.dataclass
class A:
    split: object = f
@dataclasses.dataclass
class G(M, ExceptionGroup): pass
if 'split' in [field.name for field in dataclasses.fields(G)]: print('ESCAPED', G)
""",
    "textwrap_table": """
import textwrap
class S(str):
    def expandtabs(self, n=8): return self
    def translate(self, table):
        table[ord('a')] = 'ESCAPED'
        return str(self)
textwrap.fill(S('x'))
print(textwrap.fill('a b'))
""",
    "re_template_cache": """
import re
got = []
class S(str):
    def __hash__(self): return hash('<\\\\1>')
    def __eq__(self, o): got.append(o); return True
re.sub('(a)', S('ESCAPED\\\\1'), 'a')
if 'ESC' in re.sub('(a)', '<\\\\1>', 'a') or got: print('ESCAPED')
""",
}
