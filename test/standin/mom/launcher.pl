#!/usr/bin/perl
# One process for each job of the stand-in's mom: it runs the prologue and then the job without needing the mom to be
# alive, as the children of a real mom do. Perl, since Node cannot set supplementary groups, argv[0] or a session of
# its own all at once. Uses only what Debian's perl-base has.
#
#   launcher.pl start|epilogue|deliver|sister SPEC
#
# SPEC is a file of NUL-separated names and values; a name ending in [] may come again. Events go to descriptor 3, one a
# line; nobody listening is no error.
use strict;
use warnings;
use Fcntl qw(O_WRONLY O_RDONLY O_APPEND O_CREAT O_TRUNC O_NOFOLLOW F_SETFD FD_CLOEXEC S_ISREG);
use POSIX ();

my ($mode, $spec_path) = @ARGV;
my %spec = read_spec($spec_path);
open(my $events, '>&=', 3) or die "descriptor 3: $!\n";
fcntl($events, F_SETFD, FD_CLOEXEC);

# The log of the mom is not the job's business: what jobs may write to is opened below.
my %modes = (start => \&start, epilogue => \&epilogue, deliver => \&deliver, sister => \&sister);
($modes{$mode} // die "unknown mode $mode\n")->();
POSIX::_exit(0);

sub read_spec {
    my ($path) = @_;
    open(my $file, '<:raw', $path) or die "$path: $!\n";
    local $/;
    my @fields = split /\0/, scalar <$file>, -1;
    my %found;
    while (@fields > 1) {
        my ($name, $value) = splice(@fields, 0, 2);
        if ($name =~ s/\[\]$//) { push @{ $found{$name} }, $value }
        else { $found{$name} = $value }
    }
    return %found;
}

# Events are lost when the mom is dead; that must not kill us, and the signal's setting must not reach the job.
sub event {
    local $SIG{PIPE} = 'IGNORE';
    syswrite($events, "@_\n");
}

sub start_time_of {
    my ($pid) = @_;
    open(my $stat, '<', "/proc/$pid/stat") or return '';
    my $text = <$stat>;
    $text =~ s/^.*\) //s;
    return (split / /, $text)[19];
}

# Every session is written down before anything runs in it, so that whoever stops the stand-in finds it.
sub new_session {
    my ($kind) = @_;
    POSIX::setsid();
    sysopen(my $list, $spec{sessions}, O_WRONLY | O_APPEND | O_CREAT, 0600) or return;
    syswrite($list, join(' ', $$, start_time_of($$), $kind, $spec{id}) . "\n");
    close($list);
}

sub user_groups { return join(' ', $spec{gid}, @{ $spec{groups} // [] }) }

# Root hooks and a privileged starter keep uid and gid 0 but have the user's supplementary groups.
sub take_groups {
    my ($gid) = @_;
    $) = join(' ', $gid, @{ $spec{groups} // [] });
    $( = $gid;
}

sub become_user {
    take_groups($spec{gid});
    POSIX::setgid($spec{gid});
    POSIX::setuid($spec{uid});
    die "cannot become uid $spec{uid}\n" if $< != $spec{uid} || $> != $spec{uid};
}

# The job's output files are made with the user's rights: the spool directory is writable to all, and root must not be
# led astray by a link there.
sub open_as_user {
    my ($path, $flags, $mode) = @_;
    my ($saved_groups, $saved_umask) = ($), umask($spec{umask}));
    $) = user_groups();
    $> = $spec{uid};
    my $opened = sysopen(my $file, $path, $flags, $mode);
    my $why = $!;
    $> = 0;
    $) = $saved_groups;
    umask($saved_umask);
    $! = $why;
    return $opened ? $file : undef;
}

sub open_outputs {
    my %handles;
    for my $path ($spec{out}, $spec{err}) {
        $handles{$path} //= open_as_user($path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0666) // return;
    }
    return ($handles{ $spec{out} }, $handles{ $spec{err} });
}

sub set_descriptors {
    my ($in, $out, $err) = @_;
    POSIX::dup2(fileno($in), 0);
    POSIX::dup2(fileno($out), 1);
    POSIX::dup2(fileno($err), 2);
}

sub session_members {
    my ($session) = @_;
    my @members;
    for my $path (glob('/proc/[0-9]*/stat')) {
        open(my $stat, '<', $path) or next;
        my $text = <$stat> // next;
        my ($pid) = $text =~ /^(\d+)/;
        $text =~ s/^.*\) //s;
        push @members, $pid if (split / /, $text)[3] == $session;
    }
    return @members;
}

# What TORQUE demands of a hook's file. Owner readable and executable, not writable to group and others.
sub acceptable {
    my ($who, $path) = @_;
    my @found = lstat($path) or return 0;
    my ($file_mode, $owner) = @found[2, 4];
    return 0 unless S_ISREG($file_mode) && ($file_mode & 0500) == 0500 && ($file_mode & 0022) == 0;
    return $owner == $spec{uid} if $who eq 'own';
    return 0 if $owner != 0;
    return $who ne 'user' || ($file_mode & 0005) == 0005;
}

# Runs one hook; returns its exit code, 0 where a signal killed it (TORQUE takes that for success) or no such file
# exists, 'timeout' when the alarm fired, and 255 for a file that must not or cannot be run.
sub run_hook {
    my ($who, $path, $umask, $out, $err) = @_;
    return 0 unless -e $path || -l $path;
    return 255 unless acceptable($who, $path);
    my $pid = fork() // return 255;
    if ($pid == 0) {
        new_session('hook');
        open(my $null, '<', '/dev/null');
        set_descriptors($null, $out, $err);
        umask($umask);
        chdir($who eq 'root' ? $spec{mom_priv} : $spec{home});
        if ($who eq 'root') { take_groups(0) }
        else { become_user() }
        %ENV = map { split /=/, $_, 2 } @{ $spec{hook_env} // [] };
        no warnings 'exec';
        exec { $path } $path, @{ $spec{hook_arg} // [] } or POSIX::_exit(255);
    }
    my $timed_out = 0;
    local $SIG{ALRM} = sub { $timed_out = 1; kill 'KILL', session_members($pid) };
    alarm($spec{alarm});
    while (waitpid($pid, 0) != $pid) { last if $!{ECHILD} }
    my $status = $?;
    alarm(0);
    return 'timeout' if $timed_out;
    return $status & 127 ? 0 : $status >> 8;
}

sub start {
    my ($out, $err) = open_outputs();
    unless (defined $out && defined $err) {
        event('failed', -9);
        return;
    }
    # Not recorded what TORQUE does when this fails; here the job is not run.
    for my $pair (@{ $spec{stage} // [] }) {
        next if stage(split /\t/, $pair, 2);
        event('failed', -1);
        return;
    }
    for my $hook (@{ $spec{hook} // [] }) {
        my ($who, $path) = split /\t/, $hook, 2;
        my $result = run_hook($who, $path, 0077, $out, $err);
        next if $result eq '0';
        event('failed', $result eq '1' ? -2 : -14);
        return;
    }
    # The mom takes this file away when it gives the attempt up; the job must not run then.
    return unless -e $spec{token};
    run_job($out, $err);
}

# prlimit64 by its number on x86_64; each limit is soft and hard at once.
sub set_limits {
    for my $limit (@{ $spec{limits} // [] }) {
        my ($resource, $value) = split / /, $limit;
        syscall(302, 0, int($resource), pack('QQ', $value, $value), 0) == 0 or die "limit $resource: $!\n";
    }
}

sub run_job {
    my ($out, $err) = @_;
    pipe(my $reader, my $writer) or return event('failed', -1);
    my $pid = fork() // return event('failed', -1);
    if ($pid == 0) {
        close($writer);
        new_session('job');
        set_descriptors($reader, $out, $err);
        umask($spec{umask});
        set_limits();
        if ($spec{privileged}) { take_groups(0) }
        else { become_user() }
        chdir($spec{cwd}) or chdir('/');
        %ENV = map { split /=/, $_, 2 } @{ $spec{env} // [] };
        no warnings 'exec';
        exec { $spec{program} } @{ $spec{argv} };
        syswrite(STDERR, "PBS: exec of shell '$spec{program}' failed\n");
        POSIX::_exit(254);
    }
    close($reader);
    {
        local $SIG{PIPE} = 'IGNORE';
        syswrite($writer, $spec{stdin});
        close($writer);
    }
    event('job', $pid, start_time_of($pid));
    while (waitpid($pid, 0) != $pid) { last if $!{ECHILD} }
    event('end', $? & 127 ? 256 + ($? & 127) : $? >> 8);
}

sub epilogue {
    my ($out, $err) = open_outputs();
    if (!defined $out || !defined $err) {
        open($out, '>', '/dev/null');
        $err = $out;
    }
    for my $hook (@{ $spec{hook} // [] }) {
        my ($who, $path) = split /\t/, $hook, 2;
        run_hook($who, $path, 0022, $out, $err);
    }
    event('done');
}

# The hooks of a node that is not the job's first: prologue.parallel or epilogue.parallel.
sub sister {
    open(my $null, '>', '/dev/null');
    for my $hook (@{ $spec{hook} // [] }) {
        my ($who, $path) = split /\t/, $hook, 2;
        my $result = run_hook($who, $path, 0077, $null, $null);
        next if $result eq '0';
        return event('sister', $result eq 'timeout' ? -1 : $result);
    }
    event('sister', 0);
}

# Copies finished output to where the user wants it, entirely with the user's rights.
sub deliver {
    umask($spec{umask});
    become_user();
    chdir('/');
    for my $pair (@{ $spec{copy} // [] }) {
        my ($from, $to, $name) = split /\t/, $pair, 3;
        $to =~ s{/*$}{/$name} if -d $to;
        event(copy($from, $to) ? 'copied' : 'undelivered', $from);
    }
    # What was staged out is the server's no more; what could not be stays.
    for my $pair (@{ $spec{stage} // [] }) {
        my ($from, $to) = split /\t/, $pair, 2;
        system('rm', '-rf', '--', $from) if stage($from, $to);
    }
}

# Copies a file or directory with the user's rights, as the mom's `cp -rp` does.
sub stage {
    my ($from, $to) = @_;
    my $pid = fork() // return 0;
    if ($pid == 0) {
        umask($spec{umask});
        become_user() if $> == 0;
        open(my $null, '<', '/dev/null');
        open(my $sink, '>', '/dev/null');
        set_descriptors($null, $sink, $sink);
        no warnings 'exec';
        exec('cp', '-rp', '--', $from, $to) or POSIX::_exit(255);
    }
    while (waitpid($pid, 0) != $pid) { last if $!{ECHILD} }
    return $? == 0;
}

# No step of a copy may take longer than this. Seconds.
use constant PATIENCE => 5;

# The target may be a FIFO that nobody reads: a copy that does not get on is given up. What counts is that the alarm makes
# the system call fail; it comes again, lest it falls between two of them.
sub copy {
    my ($from, $to) = @_;
    local $SIG{ALRM} = sub { alarm(1) };
    my $done = copy_before_alarm($from, $to);
    alarm(0);
    return $done;
}

sub copy_before_alarm {
    my ($from, $to) = @_;
    alarm(PATIENCE);
    sysopen(my $in, $from, O_RDONLY | O_NOFOLLOW) or return 0;
    sysopen(my $out, $to, O_WRONLY | O_CREAT | O_TRUNC, 0666) or return 0;
    while (1) {
        my $read = sysread($in, my $buffer, 1 << 20) // return 0;
        last if $read == 0;
        for (my $at = 0; $at < $read;) {
            alarm(PATIENCE);
            $at += syswrite($out, $buffer, $read - $at, $at) // return 0;
        }
    }
    return close($out);
}
