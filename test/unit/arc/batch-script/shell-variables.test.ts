import { describe, expect, it } from 'vitest';
import { parseShellVariables } from '../../../../src/arc/batch-script/shell-variables.ts';

const all = () => true;
const entries = (list: string) => Object.fromEntries(parseShellVariables(list, all));

describe('parseShellVariables', () => {
  it.each([
    ['nothing', 'A=\n', ''],
    ['a plain word', 'A=/usr/bin:b=c,~%\n', '/usr/bin:b=c,~%'],
    ['single quotes, as dash puts them together', `A='it'"'"'s'\n`, "it's"],
    ['single quotes, as bash puts them together', `A='it'\\''s'\n`, "it's"],
    ['lines in single quotes', `A='one\nB=two\n'\n`, 'one\nB=two\n'],
    ['double quotes', 'A="a \\"b\\" \\$c \\`d\\` \\\\ \\e"\n', 'a "b" $c `d` \\ \\e'],
    [
      'escapes of bash',
      `A=$'it\\'s\\ta\\\\b\\n\\001\\303\\251\\x7f\\E'\n`,
      "it's\ta\\b\n\x01\xc3\xa9\x7f\x1b",
    ],
    ['a character by its number', `A=$'\\u00e9'\n`, '\xc3\xa9'],
    ['bytes that are no text', `A='\x80\xff'\n`, '\x80\xff'],
  ])('takes the quotes off: %s', (_, list, value) => {
    expect(entries(list)).toEqual({ A: value });
  });

  it('passes over arrays and over functions, whatever their text looks like', () => {
    const list = `A=1\nBASH_VERSINFO=([0]="5" [1]="2")\nB=2\nf () \n{ \n    cat <<X\nA=evil\nX\n}\n`;
    expect(parseShellVariables(list, (name) => name.length === 1)).toEqual(
      new Map([
        ['A', '1'],
        ['B', '2'],
      ]),
    );
  });

  it.each(['A=([0]="x")', "A='open", 'A="$(id)"', "A=$'\\q'", 'A=`id`', 'A=one two'])(
    'refuses %s for a variable that is wanted',
    (list) => {
      expect(() => entries(`${list}\n`)).toThrow('the value of A cannot be read');
    },
  );

  it('reads a value of many megabytes', () => {
    const value = 'x\n'.repeat(4 * 1024 * 1024);
    expect(entries(`A='${value}'\nB=1\n`)).toEqual({ A: value, B: '1' });
  });
});
